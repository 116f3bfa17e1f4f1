"""Which candidate gets the star: expected quality for this amount of data, then time."""

from __future__ import annotations

from math import log2

from core.memory.prediction import Prediction
from core.methods import MethodName
from core.models.catalogue import ModelCard, ModelShape
from core.planning.candidates import Basis, Candidate
from core.planning.defaults import MANY_ROWS
from core.units import bytes_text, duration_text

LARGE = 8e9  # beyond this, twice the size gains less than it costs to run
UNKNOWN_MINUTES = 30.0


def score(card: ModelCard, method: MethodName, basis: Basis, seconds: float | None) -> float:
    """Higher is better. A doubling of the size below 8B is worth one point."""
    minutes = UNKNOWN_MINUTES if seconds is None else seconds / 60
    patience = 15.0 if basis.on_gpu else 5.0
    time = (0.4 if basis.on_gpu else 1.5) * log2(1 + minutes / patience)
    return _quality(card) + _method(method, basis.rows) + _access(card) - time


def _quality(card: ModelCard) -> float:
    parameters = _effective_parameters(card.shape)
    below, above = min(parameters, LARGE), max(parameters / LARGE, 1.0)
    return (
        log2(below / 1e9)
        + 0.3 * log2(above)
        + 0.35 * ((card.year or 2024) - 2024)
        + (0.7 if card.instruct else 0.0)
        - (0.7 if card.reasoning else 0.0)
    )


def _effective_parameters(shape: ModelShape) -> float:
    """A mixture of experts is worth about the geometric mean of all and of active weights."""
    if not shape.experts:
        return shape.parameters
    share = (shape.active_experts or 1) / shape.experts
    return float(shape.parameters * share**0.5)


def _method(method: MethodName, rows: int) -> float:
    """4-bit costs a little; full fine-tuning pays only with much data, and forgets more."""
    if method == "qlora":
        return -0.2
    if method == "full":
        return 0.1 if rows >= 2 * MANY_ROWS else -0.4
    return 0.0


def _access(card: ModelCard) -> float:
    if card.cached:
        return 0.3
    return -1.0 if card.gated else 0.0


def explain(card: ModelCard, prediction: Prediction, free_bytes: int) -> str:
    """One sentence: what the model is good for, or what it needs and does not have."""
    if prediction.high <= free_bytes:
        return prediction.note or card.good_for
    peak, free = bytes_text(prediction.peak), bytes_text(free_bytes)
    short = bytes_text(prediction.high - free_bytes)
    return f"does not fit: {peak} predicted, {free} free, {short} short with its margin"


def recommend(candidate: Candidate) -> str:
    """The sentence of the star."""
    basis, prediction = candidate.basis, candidate.prediction
    kind = {"lora": "LoRA", "qlora": "QLoRA", "full": "full fine-tuning"}[candidate.method]
    where = "of the memory that is free now" if basis.on_gpu else "of the free RAM"
    share = prediction.high / max(1, basis.free_bytes)
    seconds = candidate.seconds
    duration = f", in about {duration_text(seconds)}" if seconds is not None else ""
    return (
        f"the best of what fits for {basis.rows:,} rows: {kind} needs "
        f"{bytes_text(prediction.peak)}, at most {share:.0%} {where}{duration}"
    )
