"""How fast this machine really was: what was measured corrects what is assumed.

A measurement is kept raw (tokens a second, and all that the formula asks for), so that it stays
true when the formula changes. What counts is the ratio of measured to assumed time a token, by
device, method and the versions of the training stack.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from core.methods import Bits, MethodName
from core.models.catalogue import ModelShape
from core.objectives import OBJECTIVES, ObjectiveName
from core.paths import home
from core.planning.gpus import gpu_named, known_gpus
from core.planning.speed import CPU_FLOPS_PER_CORE, UNKNOWN_GPU_FLOPS, seconds_per_token
from core.planning.work import Work

How = Literal["assumed", "measured", "measured otherwise"]
CALIBRATED = "calibrate"
"""How the `source` of a measurement begins that `tunedeck calibrate` took."""

STACK = ("torch", "transformers", "trl", "peft", "bitsandbytes")
CLOSE_IN_SIZE = math.log(4.0)  # models within a factor of four run alike
# How far the truth may lie from the middle, either way, by how alike the measured runs are.
ALIKE, OTHERWISE, LEAST = 1.25, 1.6, 1.1
BESIDES_STEPS = 1.1  # evaluations and checkpoints, which the speed of a step does not show
ENOUGH_TO_SEE_SPREAD = 3


@dataclass(frozen=True, slots=True)
class Pace:
    """A time as a multiple of the assumed one: its middle `factor`, and a range around that.

    `runs` is how many measurements it rests on.
    """

    factor: float = 1.0
    low: float = 0.6
    high: float = 2.0
    how: How = "assumed"
    runs: int = 0


ASSUMED = Pace()


@dataclass(frozen=True, slots=True)
class Measurement:
    """Training at `tokens_per_s`, as measured. Peaks in bytes, None where they were not read.

    `device` is called as `gpu_device` or `cpu_device` say; `source` is the run's id. `rank`,
    `bits` and `objective` are those of the recipe, `gpus` how many trained together.
    """

    source: str
    device: str
    on_gpu: bool
    cores: int
    method: MethodName
    stack: str
    shape: ModelShape
    tokens_per_s: float
    tokens_per_row: float
    micro_batch: int
    gradient_checkpointing: bool
    peak_allocated: int | None = None
    peak_reserved: int | None = None
    taken: float = 0.0
    rank: int = 16
    bits: Bits | None = None
    objective: ObjectiveName = "sft"
    gpus: int = 1

    @property
    def factor(self) -> float:
        """Measured by assumed time a token."""
        peak = device_flops(self.device, self.cores, on_gpu=self.on_gpu) or UNKNOWN_GPU_FLOPS
        assumed = seconds_per_token(
            self.shape,
            Work(self.method, self.objective, self.bits, self.rank),
            tokens_per_row=self.tokens_per_row / OBJECTIVES[self.objective].sequences,
            micro_batch=self.micro_batch,
            gradient_checkpointing=self.gradient_checkpointing,
            flops=peak * self.gpus,
            on_gpu=self.on_gpu,
        )
        return 1.0 / (self.tokens_per_s * assumed)


@dataclass(frozen=True, slots=True)
class Point:
    """What a pace needs of a measurement; logarithms, since only ratios matter."""

    method: MethodName
    objective: ObjectiveName
    same_stack: bool
    log_size: float
    log_factor: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The measurements of one device."""

    points: tuple[Point, ...] = ()

    def pace(self, method: MethodName, parameters: int, objective: ObjectiveName = "sft") -> Pace:
        """For a method and a size of model: from the measurements most like it."""
        if not self.points:
            return ASSUMED
        size = math.log(max(1, parameters))
        same = [point for point in self.points if point.method == method]
        alike = [
            point
            for point in same
            if point.same_stack
            and point.objective == objective
            and abs(point.log_size - size) <= CLOSE_IN_SIZE
        ]
        if alike:
            return _pace(alike, ALIKE, "measured")
        return _pace(same or self.points, OTHERWISE, "measured otherwise")


UNMEASURED = Calibration()


def _pace(points: Sequence[Point], spread: float, how: How) -> Pace:
    logs = [point.log_factor for point in points]
    middle = statistics.median(logs)
    if how == "measured" and len(logs) >= ENOUGH_TO_SEE_SPREAD:
        seen = math.exp(max(abs(log - middle) for log in logs))
        spread = min(spread, max(LEAST, seen))
    return Pace(math.exp(middle), 1 / spread, spread * BESIDES_STEPS, how, len(logs))


def pace_text(pace: Pace) -> str:
    """How well a speed is known, in words."""
    if pace.how == "assumed":
        return "assumed: nothing was measured on this device"
    runs = "run" if pace.runs == 1 else "runs"
    if pace.how == "measured":
        return f"measured here ({pace.runs} {runs})"
    return f"measured in {pace.runs} other {runs}"


def calibration_for(device: str, kept: Iterable[Measurement]) -> Calibration:
    """What is known of a device. Real runs, where there are any, count instead of trials, and of
    trials the latest."""
    stack = installed_stack()
    mine = [one for one in kept if one.device == device]
    runs = [one for one in mine if not one.source.startswith(CALIBRATED)]
    covered = {one.method for one in runs}
    trials = [one for one in mine if one.source.startswith(CALIBRATED)]
    latest = max((one.source for one in trials), default="")
    counted = runs + [t for t in trials if t.source == latest and t.method not in covered]
    return Calibration(
        tuple(
            Point(
                one.method,
                one.objective,
                one.stack == stack,
                math.log(max(1, one.shape.parameters)),
                math.log(one.factor),
            )
            for one in counted
        )
    )


def gpu_device(name: str, memory: int | None) -> str:
    """How a GPU is called here: as in the presets, else as its driver names it."""
    known = gpu_named(name, memory)
    return known.name if known else name


def cpu_device(cpu_name: str, cores: int) -> str:
    """How a CPU is called here: more cores are another device."""
    return f"{cpu_name} × {cores}"


def device_flops(device: str, cores: int, *, on_gpu: bool) -> float | None:
    """The assumed peak of a device; None for a GPU that is no preset."""
    if not on_gpu:
        return CPU_FLOPS_PER_CORE * cores
    return next((gpu.flops for gpu in known_gpus() if gpu.name == device), None)


@cache
def installed_stack() -> str:
    """The versions that decide the speed, without their patch numbers."""
    return ", ".join(f"{name} {_minor(name)}" for name in STACK)


def _minor(name: str) -> str:
    try:
        return ".".join(version(name).split(".")[:2])
    except PackageNotFoundError:
        return "–"


# The store: JSON lines, appended to, read whole.


def store() -> Path:
    """Where the measurements are kept."""
    return home() / "calibration.jsonl"


def kept_measurements() -> list[Measurement]:
    """All that can be read; lines of another version, or torn ones, are skipped."""
    found = (_measurement(tree) for tree in _lines())
    return [one for one in found if one is not None]


def known_sources() -> set[str]:
    """The runs that were looked at already, whether or not they gave a measurement."""
    return {str(tree["source"]) for tree in _lines() if "source" in tree}


def keep(measurements: Iterable[Measurement], barren: Iterable[str] = ()) -> None:
    """Add measurements, and the runs that gave none, so that they are not read again.

    OSError where the home cannot be written.
    """
    trees: list[dict[str, Any]] = [asdict(one) for one in measurements]
    trees += [{"source": source} for source in barren]
    if not trees:
        return
    store().parent.mkdir(parents=True, exist_ok=True)
    with store().open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(tree) + "\n" for tree in trees))


def _lines() -> list[dict[str, Any]]:
    try:
        text = store().read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for line in text.splitlines():
        try:
            tree = json.loads(line)
        except ValueError:
            continue
        if isinstance(tree, dict):
            found.append(tree)
    return found


_KEYS = tuple(field.name for field in fields(Measurement))


def _measurement(tree: dict[str, Any]) -> Measurement | None:
    try:
        shape = ModelShape(**tree["shape"])
        rest = {key: tree[key] for key in _KEYS if key != "shape" and key in tree}
        one = Measurement(shape=shape, **rest)
        return one if 0 < one.factor < math.inf else None
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
