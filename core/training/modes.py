"""Measuring in the middle of a training, without a trace in what follows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """No dropout and no gradients inside; the model trains on as before after it.

    bitsandbytes packs 4-bit weights for inference when a CPU layer runs in evaluation mode,
    and never unpacks them: from then on no gradient passes through. Its layers have nothing
    to switch, so they stay in training mode. May be used inside itself.
    """
    was_training = model.training
    _switch_to_evaluation(model)
    try:
        with torch.no_grad():
            yield
    finally:
        if was_training:
            model.train()
        else:
            _switch_to_evaluation(model)


def _switch_to_evaluation(model: nn.Module) -> None:
    model.eval()
    for module in model.modules():
        if type(module).__name__ == "Linear4bit":
            module.training = True
