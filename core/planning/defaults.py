"""Hyper-parameters to start from, by the size of the data, the model and the method.

The rules are those that practical guides of 2025-26 agree on: learning rate 2e-4 for LoRA (1e-4
to 3e-4), ten times less for full fine-tuning; rank 8-16 under 10,000 rows and 32-64 above;
alpha twice the rank; 3 epochs under 1,000 rows, 1-2 above; an effective batch of 8-32;
3-10 % warm-up. Small models bear, and need, higher rates: 135M learned a narrow job at 1e-3.
"""

from __future__ import annotations

from core.methods import MethodName
from core.planning.candidates import Hyper

FEW_ROWS, MANY_ROWS = 1_000, 10_000
SHORT_RUN_STEPS = 100


def defaults(rows: int, parameters: int, method: MethodName) -> Hyper:
    """Where to start for this much data on a model of this size."""
    rank = 32 if rows >= MANY_ROWS else 16
    epochs = 3.0 if rows < FEW_ROWS else 2.0 if rows < MANY_ROWS else 1.0
    batch = _effective_batch(rows)
    steps = rows * epochs / batch
    return Hyper(
        learning_rate=_learning_rate(parameters, method),
        rank=rank,
        alpha=2.0 * rank,
        dropout=0.0,  # 0-0.05 is usual; it costs a mask and a copy of every adapted input
        epochs=epochs,
        warmup=0.1 if steps < SHORT_RUN_STEPS else 0.03,
        effective_batch=batch,
    )


def _effective_batch(rows: int) -> int:
    """Few rows need many steps: with 200 rows, a batch of 32 would leave 19 of them."""
    if rows < FEW_ROWS:
        return 8
    return 16 if rows < MANY_ROWS else 32


def _learning_rate(parameters: int, method: MethodName) -> float:
    small, large = parameters < 1e9, parameters > 30e9
    if method == "full":
        return 5e-5 if small else 1e-5
    if parameters < 3e8:
        return 1e-3
    return 5e-4 if small else 1e-4 if large else 2e-4
