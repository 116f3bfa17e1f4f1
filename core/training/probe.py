"""One real step before the first, on the longest rows: what does not fit shows now.

Nothing of it stays. The step's gradients are zeroed before the optimiser sees them and its
learning rate is nought, so that no weight moves; the optimiser's state is dropped again and the
random generators are put back. What follows is bit for bit the training without a probe.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from core.training.modes import measuring


def should_probe() -> bool:
    """On a GPU, whose memory ends hard. On a CPU there is nothing to catch: the system kills a
    process that takes too much, and what can be known is compared with the free RAM before
    anything is loaded."""
    return bool(torch.cuda.is_available())


def probe(trainer: Any, model: Any) -> dict[str, float | int]:
    """Take the step and undo it; seconds, rows, tokens and, on a GPU, the peak in bytes.

    The parts come in the order in which they are all in memory at once: the optimiser's state is
    there when the second forward pass runs, and with accumulation the gradients are, too. Raises
    what an allocator raises.
    """
    started = time.monotonic()
    batch = trainer.longest_batch()
    optimizer = _plain(trainer.optimizer)
    fresh = not optimizer.state
    with _random_state_kept(), _learning_rate_zero(optimizer):
        _forward_and_backward(trainer, model, batch)
        if fresh:
            _zero_step(optimizer)
        if trainer.args.gradient_accumulation_steps == 1:
            model.zero_grad(set_to_none=True)
        _forward_and_backward(trainer, model, batch)
        step = _step_peaks()
        model.zero_grad(set_to_none=True)
        with measuring(trainer.model):
            trainer.measure_longest()
    if fresh:
        optimizer.state = defaultdict(dict)
        if hasattr(optimizer, "initialized"):  # bitsandbytes
            optimizer.initialized = False
    rows, tokens = batch["labels"].shape
    found: dict[str, float | int] = {
        "seconds": round(time.monotonic() - started, 2), "rows": rows, "tokens": tokens
    }  # fmt: skip
    if torch.cuda.is_available():
        found["peak_bytes"] = int(torch.cuda.max_memory_reserved())
    return {**found, **step}


def _step_peaks() -> dict[str, float | int]:
    """What the training step alone has needed, before anything is evaluated."""
    if not torch.cuda.is_available():
        return {}
    return {
        "step_allocated": int(torch.cuda.max_memory_allocated()),
        "step_reserved": int(torch.cuda.max_memory_reserved()),
    }


def _plain(optimizer: Any) -> Any:
    """Without accelerate's wrapper, which skips steps in the middle of an accumulation."""
    return getattr(optimizer, "optimizer", optimizer)


def _forward_and_backward(trainer: Any, model: Any, batch: dict[str, Any]) -> None:
    model.train()
    trainer.begin_step(batch)
    inputs = trainer._prepare_inputs(dict(batch))
    with trainer.compute_loss_context_manager():
        loss = trainer.compute_loss(model, inputs, num_items_in_batch=inputs["labels"].numel())
    loss.backward()


def _zero_step(optimizer: Any) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.zero_()
    optimizer.step()


@contextmanager
def _learning_rate_zero(optimizer: Any) -> Iterator[None]:
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = torch.zeros_like(group["lr"]) if torch.is_tensor(group["lr"]) else 0.0
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


@contextmanager
def _random_state_kept() -> Iterator[None]:
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    with torch.random.fork_rng(devices):
        yield
