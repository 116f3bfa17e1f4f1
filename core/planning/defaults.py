"""Hyper-parameters to start from, by the size of the data, the model, the method, the objective.

Where each is from, and which are our own choice, `core.planning.sources` says, also to the user.
"""

from __future__ import annotations

import math

from core.methods import METHODS, MethodName
from core.objectives import ObjectiveName
from core.planning.candidates import Hyper

FEW_ROWS, MANY_ROWS = 1_000, 10_000
SHORT_RUN_STEPS = 100
SOFT_PROMPT_EPOCHS = 5.0
PREFERENCE_RATE = {"dpo": 1 / 40, "kto": 1 / 40, "orpo": 1 / 4}
"""Of the rate for supervised training."""
TINY, SMALL, LARGE = 3e8, 1e9, 3e10
"""Parameters below or above which another learning rate is usual."""


def defaults(
    rows: int,
    parameters: int,
    method: MethodName,
    objective: ObjectiveName = "sft",
    gpus: int = 1,
) -> Hyper:
    """Where to start for this much data on a model of this size."""
    rank = _rank(rows, method, objective)
    epochs = _epochs(rows, method, objective)
    batch = _shared_evenly(_effective_batch(rows), gpus)
    steps = rows * epochs / batch
    return Hyper(
        learning_rate=_learning_rate(parameters, method, objective),
        rank=rank,
        alpha=_alpha(rank, method),
        dropout=0.0,  # 0-0.05 is usual; it costs a mask and a copy of every adapted input
        epochs=epochs,
        warmup=0.1 if steps < SHORT_RUN_STEPS or objective == "dpo" else 0.03,
        effective_batch=batch,
    )


def _effective_batch(rows: int) -> int:
    """Few rows need many steps: with 200 rows, a batch of 32 would leave 19 of them."""
    if rows < FEW_ROWS:
        return 8
    return 16 if rows < MANY_ROWS else 32


def _shared_evenly(batch: int, gpus: int) -> int:
    """About as many rows, of which each GPU takes the same number: a power of two, to be halved."""
    return gpus << max(0, round(math.log2(batch / gpus)))


def _rank(rows: int, method: MethodName, objective: ObjectiveName) -> int:
    if method == "vera":
        return 256
    if method == "rslora" or objective == "pretrain":
        return 64
    return 32 if rows >= MANY_ROWS else 16


def _alpha(rank: int, method: MethodName) -> float:
    """The update is scaled by alpha over rank; rsLoRA's by alpha over its root."""
    if method == "rslora":
        return round(2 * math.sqrt(rank), 1)
    return float(rank) if method in ("pissa", "loha", "lokr") else 2.0 * rank


def _epochs(rows: int, method: MethodName, objective: ObjectiveName) -> float:
    if METHODS[method].kind == "soft-prompt" and rows < MANY_ROWS:
        return SOFT_PROMPT_EPOCHS
    if objective == "pretrain":
        return 1.0
    if objective == "sft":
        return 3.0 if rows < FEW_ROWS else 2.0 if rows < MANY_ROWS else 1.0
    return 2.0 if rows < FEW_ROWS else 1.0


def _learning_rate(parameters: int, method: MethodName, objective: ObjectiveName) -> float:
    rate = _own_rate(parameters, method)
    if method in ("full", "last-layers"):
        rate *= 0.5 if objective == "pretrain" else 1.0
    return float(f"{rate * PREFERENCE_RATE.get(objective, 1.0):.2g}")


def _own_rate(parameters: int, method: MethodName) -> float:
    """For supervised training."""
    fixed = {
        "vera": 4e-3, "adalora": 5e-4, "ia3": 3e-3, "prefix": 1e-2, "prompt": 3e-2,
        "p-tuning": 1e-3, "pissa": 2e-5,
    }  # fmt: skip
    if method in fixed:
        return fixed[method]
    if method in ("full", "last-layers"):
        rate = 5e-5 if parameters < SMALL else 2e-5 if parameters <= 9e9 else 1e-5
        return 2 * rate if method == "last-layers" else rate
    rate = 1e-3 if parameters < TINY else 5e-4 if parameters < SMALL else 2e-4
    if parameters > LARGE:
        rate = 1e-4
    return rate / 2 if method in ("dora", "lora+") else rate
