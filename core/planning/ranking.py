"""Which candidate gets the star: expected quality for this amount of data, then time."""

from __future__ import annotations

from math import log2

from core.memory.prediction import Prediction
from core.methods import METHODS, MethodName
from core.models.catalogue import ModelCard, ModelShape
from core.objectives import ObjectiveName
from core.planning.candidates import Basis, Candidate
from core.planning.defaults import MANY_ROWS
from core.units import bytes_text, span_text

LARGE = 8e9  # beyond this, twice the size gains less than it costs to run
CUT_POINTS = 10.0  # for all rows: a tenth of them cut costs as much as half the model
METHOD_POINTS: dict[MethodName, float] = {
    "qlora": -0.2,
    "lora-8bit": -0.1,
    "adalora": -0.05,
    "oft": -0.1,
    "loha": -0.2,
    "lokr": -0.2,
    "vera": -0.3,
    "last-layers": -0.5,
    "ia3": -0.6,
    "prefix": -0.8,
    "p-tuning": -0.9,
    "prompt": -1.0,
}
"""LoRA and DoRA are 0. Our own choice, after peft's comparison of what Llama-3.2-3B then solves of
GSM8K (method_comparison/MetaMathQA): OFT 49 %, LoRA 48, LoKr and DoRA 47, LoHa 39, AdaLoRA 37, VeRA
35, P-tuning 35, IA3 31 to 45, prefix 19 to 42, prompt 6 to 34; there DoRA's gain (arXiv 2402.09353)
is not seen. QLoRA's authors lose nothing in 4 bits (arXiv 2305.14314), which is counted for little.
"""
EXPERTS_UNTAUGHT = -0.5
"""For an adapter on a mixture of experts: it reaches the attention alone. Our own choice."""


def score(card: ModelCard, method: MethodName, basis: Basis, seconds: float, length: int) -> float:
    """Higher is better. A doubling of the size below 8B is worth one point. `seconds` only compare
    where the device's speed is not known."""
    minutes = seconds / 60
    patience = 15.0 if basis.on_gpu else 5.0
    time = (0.4 if basis.on_gpu else 1.5) * log2(1 + minutes / patience)
    quality = _quality(card, basis.objective) + method_points(method, basis.rows)
    if card.shape.experts and METHODS[method].kind == "adapter":
        quality += EXPERTS_UNTAUGHT
    return quality - CUT_POINTS * (basis.share_cut(length) or 0.0) + _access(card) - time


def _quality(card: ModelCard, objective: ObjectiveName) -> float:
    """By size, age and kind. Continued pre-training wants a base model, all else an assistant."""
    parameters = _effective_parameters(card.shape)
    below, above = min(parameters, LARGE), max(parameters / LARGE, 1.0)
    return (
        log2(below / 1e9)
        + 0.3 * log2(above)
        + 0.35 * ((card.year or 2024) - 2024)
        + (0.7 if card.instruct != (objective == "pretrain") else 0.0)
        - (0.7 if card.reasoning else 0.0)
    )


def _effective_parameters(shape: ModelShape) -> float:
    """A mixture of experts is worth about the geometric mean of all and of active weights."""
    if not shape.experts:
        return shape.parameters
    share = (shape.active_experts or 1) / shape.experts
    return float(shape.parameters * share**0.5)


def method_points(method: MethodName, rows: int) -> float:
    """What a method gains or loses against LoRA; full fine-tuning pays only with much data, and
    forgets more."""
    if method == "full":
        return 0.1 if rows >= 2 * MANY_ROWS else -0.4
    return METHOD_POINTS.get(method, 0.0)


def _access(card: ModelCard) -> float:
    if card.cached:
        return 0.3
    return -1.0 if card.gated else 0.0


def explain(card: ModelCard, prediction: Prediction, basis: Basis, length: int) -> str:
    """One sentence: what the model is good for, or what it needs and does not have."""
    if prediction.high <= basis.free_bytes:
        if cut := basis.cut_text(length):
            return f"length {length} cuts {cut}"
        return prediction.note or card.caveat or card.good_for
    peak, free = bytes_text(prediction.peak), bytes_text(basis.free_bytes)
    short = bytes_text(prediction.high - basis.free_bytes)
    return f"does not fit: {peak} predicted, {free} free, {short} short with its margin"


def recommend(candidate: Candidate, *, among: int) -> str:
    """The sentence of the star, which was chosen among so many that fit."""
    basis, prediction = candidate.basis, candidate.prediction
    where = "of the free memory" if basis.on_gpu else "of the free RAM"
    share = prediction.high / max(1, basis.free_bytes)
    duration = ""
    if candidate.seconds is not None:
        duration = f", in {span_text(candidate.seconds_low, candidate.seconds_high)}"
    cut = basis.cut_text(candidate.seq_length)
    cost = f"; its length cuts {cut}" if cut else ""
    best = "of what fits, the best expected quality for its time" if among > 1 else "all that fits"
    return (
        f"{best}, with {basis.rows:,} rows: "
        f"{METHODS[candidate.method].title} needs "
        f"{bytes_text(prediction.peak)}, at most {share:.0%} {where}{duration}{cost}"
    )
