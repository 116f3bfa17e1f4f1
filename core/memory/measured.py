"""What real steps on real GPUs have needed, and how that corrects the predictions.

Every probe and every `tunedeck calibrate` on a GPU leaves a line: the setup, the device, the stack,
and what was measured. It is kept raw, so that it stays true when the formula changes. Weights,
adapter, gradients and states are known to the byte; what is corrected is the rest (activations,
loss, workspace), the context of the card, and how much more is reserved than allocated.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from core.memory.formula import predict_setup
from core.memory.prediction import Parts, Prediction
from core.memory.setup import Setup, from_json, to_json
from core.paths import home
from core.units import MIB

LOWER, UPPER, SLACK = 0.97, 1.03, 150 * MIB
ENOUGH_TO_SEE_SPREAD = 3
LEAST_SHARE = 0.02  # of what is allocated: below that, what moves is too little to say anything
LEAST, MOST = 0.5, 2.0  # a ratio beyond these tells of another setup, not of this one

Kind = tuple[str, int]
"""A method and the bits of its base."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One step as it was on a GPU, in bytes. `shown` is what NVML showed of the process, None
    where it does not say."""

    device: str
    stack: str
    setup: Setup
    allocated: int
    reserved: int
    shown: int | None = None

    @property
    def kind(self) -> Kind:
        return self.setup.method, self.setup.base_bits


@dataclass(frozen=True, slots=True)
class Correction:
    """For one device and stack: what moves is so many times the predicted, by method; the reserved
    so many times the allocated; and the context so large. None: not known."""

    moving: dict[Kind, tuple[float, ...]] = field(default_factory=dict)
    reserved: float | None = None
    context: int | None = None

    def apply(self, setup: Setup, prediction: Prediction) -> Prediction:
        """The prediction as this device would have it. Several GPUs are left as they are."""
        ratios = self.moving.get((setup.method, setup.base_bits))
        if setup.gpus > 1 or (ratios is None and self.context is None):
            return prediction
        parts = _scaled(prediction.parts, statistics.median(ratios) if ratios else 1.0)
        allocated = parts.total - parts.runtime - prediction.paged
        beyond = self.reserved or prediction.reserved / prediction.allocated
        reserved = int(allocated * beyond)
        before = prediction.parts.runtime - (prediction.reserved - prediction.allocated)
        context = before if self.context is None else self.context
        parts = replace(parts, runtime=context + reserved - allocated)
        if ratios is None:
            gap = parts.total - prediction.peak
            return replace(prediction, parts=parts, reserved=reserved,
                           low=prediction.low + gap, high=prediction.high + gap)  # fmt: skip
        moves = parts.activations + parts.loss + parts.workspace
        return replace(
            prediction,
            parts=parts,
            reserved=reserved,
            how="measured",
            low=int(parts.total * LOWER - moves * _spread(ratios)),
            high=int(parts.total * UPPER + moves * _spread(ratios)) + SLACK,
        )


NOTHING_SEEN = Correction()


def _scaled(parts: Parts, ratio: float) -> Parts:
    return replace(
        parts,
        activations=int(parts.activations * ratio),
        loss=int(parts.loss * ratio),
        workspace=int(parts.workspace * ratio),
    )


def _spread(ratios: tuple[float, ...]) -> float:
    """How far what moves may lie from the middle: as far as it has been seen to."""
    if len(ratios) < ENOUGH_TO_SEE_SPREAD:
        return 0.05
    middle = statistics.median(ratios)
    return max(abs(ratio / middle - 1) for ratio in ratios)


def correction_for(device: str, stack: str, seen: Iterable[Seen]) -> Correction:
    """What is known of a device with these versions of the libraries."""
    mine = [one for one in seen if one.device == device and one.stack == stack]
    moving: dict[Kind, list[float]] = defaultdict(list)
    for one in mine:
        ratio = _moving_ratio(one)
        if ratio is not None:
            moving[one.kind].append(ratio)
    contexts = [one.shown - one.reserved for one in mine if one.shown and one.shown > one.reserved]
    beyond = [one.reserved / one.allocated for one in mine if one.allocated]
    return Correction(
        {kind: tuple(ratios) for kind, ratios in moving.items()},
        statistics.median(beyond) if beyond else None,
        int(statistics.median(contexts)) if contexts else None,
    )


def _moving_ratio(one: Seen) -> float | None:
    parts = predict_setup(one.setup).parts
    moves = parts.activations + parts.loss + parts.workspace
    held = parts.weights + parts.adapter + parts.gradients + parts.optimizer
    if moves < LEAST_SHARE * one.allocated:
        return None
    ratio = (one.allocated - held) / moves
    return ratio if LEAST <= ratio <= MOST else None


def store() -> Path:
    """Where the measured steps are kept: JSON lines, appended to, read whole."""
    return home() / "memory.jsonl"


def keep(one: Seen) -> None:
    """Add a line. OSError where the home cannot be written."""
    tree = {**asdict(one), "setup": json.loads(to_json(one.setup))}
    store().parent.mkdir(parents=True, exist_ok=True)
    with store().open("a", encoding="utf-8") as file:
        file.write(json.dumps(tree) + "\n")


def kept() -> list[Seen]:
    """All that can be read; torn lines and those of another version are skipped."""
    try:
        text = store().read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = (_seen(line) for line in text.splitlines())
    return [one for one in found if one is not None]


def _seen(line: str) -> Seen | None:
    try:
        tree = json.loads(line)
        setup = from_json(json.dumps(tree.pop("setup")))
        one = Seen(setup=setup, **tree)
        sound = one.reserved >= one.allocated > 0 and predict_setup(setup).peak > 0
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return one if sound else None
