"""What somebody who sat beside the machine all night would notice: told once, with what to do.

The keeper looks once a second. That is how a training that hangs gets noticed at all: the process
that hangs cannot say so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from core.hardware.machine import Gpu, Machine
from core.runs.state import RunState
from core.units import bytes_text, duration_text

STALL_SECONDS = 180.0  # an evaluation or a checkpoint of a large model may take as long
STALL_STEPS = 10
FIRST_STEP_SECONDS = 900.0  # kernels are compiled, caches are filled
STEADY = 30  # readings in a row: clocks dip for a moment all the time
LOW_RAM_SHARE = 0.04
LOW_RAM_BYTES = 2 * 1024**3
LOW_DISK_BYTES = 1024**3
# Most cards run at their power limit; that is how they are built.
HARMLESS = ("power limit",)


@dataclass(frozen=True, slots=True)
class Finding:
    """A warning: what was seen, and what to do about it."""

    code: str
    message: str
    remedy: str


@dataclass(slots=True)
class Vigil:
    """Looks at the run's state and the machine's readings as they come."""

    _step: int = 0
    _moved: float = 0.0
    _seen: float = 0.0
    _paces: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    _in_a_row: dict[str, int] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def progress(self, state: RunState, now: float) -> list[Finding]:
        """Whether the training still moves. `now` is a monotonic clock's."""
        if state.stage != "training" or state.phase != "running":
            self._moved = 0.0
            return []
        if not self._moved or state.step != self._step:
            if self._moved and state.step > self._step:
                self._paces.append((now - self._moved) / (state.step - self._step))
            self._step, self._moved, self._seen = state.step, now, state.updated
            self._told.discard("stalled")
        elif state.updated != self._seen:
            self._moved, self._seen = now, state.updated  # it measures, and says so
        return list(self._stalled(now))

    def _stalled(self, now: float) -> Iterator[Finding]:
        usual = median(self._paces) if self._paces else None
        limit = FIRST_STEP_SECONDS if usual is None else max(STALL_SECONDS, STALL_STEPS * usual)
        still = now - self._moved
        if still < limit or "stalled" in self._told:
            return
        self._told.add("stalled")
        pace = "" if usual is None else f"; a step takes {duration_text(usual)} as a rule"
        yield Finding(
            "stalled",
            f"Nothing has happened for {duration_text(still)} after step {self._step}{pace}.",
            "Look at the log and at the GPU. If it stays so, `tunedeck stop --now` and `tunedeck "
            "resume` go on from the last checkpoint.",
        )

    def machine(self, machine: Machine, checkpoint_bytes: int = 0) -> list[Finding]:
        """What this reading tells. `checkpoint_bytes`: what the next checkpoint will take."""
        return [
            *self._ram(machine),
            *self._disk(machine, checkpoint_bytes),
            *(finding for gpu in _ours(machine) for finding in self._throttling(gpu)),
        ]

    def _ram(self, machine: Machine) -> Iterator[Finding]:
        low = min(LOW_RAM_SHARE * machine.ram_total, LOW_RAM_BYTES)
        if self._lasts("low-ram", machine.ram_available < low, readings=3):
            yield Finding(
                "low-ram",
                f"RAM is running out: {bytes_text(machine.ram_available)} of "
                f"{bytes_text(machine.ram_total)} is free.",
                "Close other programs. When nothing is left the system kills the run, which can "
                "be resumed.",
            )

    def _disk(self, machine: Machine, checkpoint_bytes: int) -> Iterator[Finding]:
        free = machine.disk_free
        low = free is not None and free < max(LOW_DISK_BYTES, 2 * checkpoint_bytes)
        if self._lasts("low-disk", low, readings=3):
            needs = f"; a checkpoint takes {bytes_text(checkpoint_bytes)}"
            yield Finding(
                "low-disk",
                f"The disk is running full: {bytes_text(free)} is free"
                f"{needs if checkpoint_bytes else ''}.",
                "Remove old runs (`tunedeck runs`, `tunedeck remove`) or other files.",
            )

    def _throttling(self, gpu: Gpu) -> Iterator[Finding]:
        reasons = [reason for reason in gpu.throttled or () if reason not in HARMLESS]
        code = f"throttled {gpu.index}"
        if self._lasts(code, bool(reasons), readings=STEADY):
            heat = "" if gpu.temperature is None else f" at {gpu.temperature} °C"
            yield Finding(
                "gpu-throttled",
                f"GPU {gpu.index} is slowed down{heat}: {', '.join(reasons)}.",
                "The run goes on, slower. Better cooling or a lower power limit "
                "(nvidia-smi -pl) helps; on a rented machine take another.",
            )

    def _lasts(self, code: str, bad: bool, readings: int) -> bool:
        """Whether it has been so for some time, and was not told before."""
        self._in_a_row[code] = self._in_a_row.get(code, 0) + 1 if bad else 0
        if self._in_a_row[code] < readings or code in self._told:
            return False
        self._told.add(code)
        return True


def _ours(machine: Machine) -> list[Gpu]:
    """The GPUs that our runs compute on; all visible ones where that cannot be told."""
    visible = [gpu for gpu in machine.gpus if gpu.visible]
    used = [gpu for gpu in visible if any(process.ours for process in gpu.processes)]
    return used or visible


def checkpoint_bytes(folder: Path) -> int:
    """What the newest checkpoint takes; 0 while there is none."""
    try:
        newest = max(folder.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    except (OSError, ValueError):
        return 0
    return bytes_of(newest)


def bytes_of(folder: Path) -> int:
    """The sizes of all files below; 0 for a folder that is not there, or goes meanwhile."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError:
        return 0
