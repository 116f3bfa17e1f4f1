"""The knobs of a candidate: what each key turns, and how far."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from core.planning.candidates import Candidate
from core.planning.search import retune

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RANKS = (4, 8, 16, 32, 64, 128, 256)
EPOCHS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0)
RATES = (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
OPTIMIZERS = ("adamw", "adamw-8bit", "paged-adamw-8bit", "sgd")
T = TypeVar("T", int, float)


def turned(candidate: Candidate, knob: str, step: int) -> Candidate:
    """The candidate with one knob turned a step up or down, priced anew."""
    return _KNOBS[knob](candidate, step)


def why_not(candidate: Candidate, knob: str) -> str | None:
    """Why this candidate has no such knob; None where it has."""
    if knob == "rank" and candidate.method == "full":
        return "Full fine-tuning has no rank."
    return None


def _optimizer(candidate: Candidate, step: int) -> Candidate:
    """Round and round: one key is enough for four."""
    at = OPTIMIZERS.index(candidate.optimizer) if candidate.optimizer in OPTIMIZERS else -1
    return retune(candidate, optimizer=OPTIMIZERS[(at + step) % len(OPTIMIZERS)])


def _checkpointing(candidate: Candidate, step: int) -> Candidate:
    return retune(candidate, gradient_checkpointing=not candidate.gradient_checkpointing)


_KNOBS: dict[str, Callable[[Candidate, int], Candidate]] = {
    "length": lambda c, step: retune(c, seq_length=_rung(LENGTHS, c.seq_length, step)),
    "batch": lambda c, step: retune(c, micro_batch=_rung(POWERS, c.micro_batch, step)),
    "rank": lambda c, step: retune(c, rank=_rung(RANKS, c.hyper.rank, step)),
    "epochs": lambda c, step: retune(c, epochs=_rung(EPOCHS, c.hyper.epochs, step)),
    "rate": lambda c, step: retune(c, learning_rate=_rung(RATES, c.hyper.learning_rate, step)),
    "optimizer": _optimizer,
    "checkpointing": _checkpointing,
}


def _rung(ladder: tuple[T, ...], value: float, step: int) -> T:
    """The next rung of the ladder above or below the value."""
    if step > 0:
        return next((rung for rung in ladder if rung > value), ladder[-1])
    return next((rung for rung in reversed(ladder) if rung < value), ladder[0])
