"""A moment of a training step, and what is alive in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

When = Literal["start", "head", "loss", "fused", "last", "first", "update", "tied", "embedded"]


@dataclass(frozen=True, slots=True)
class Moment:
    """What is alive beside weights and optimiser at one moment of a step, in bytes.

    `when`: the first layer begins, the head is reached, the loss is computed from whole
    logits, or `fused` with the head, the last layer differentiated (when all
    others still keep their inputs) or the first (when all gradients are there), the optimiser's
    update, a tied embedding's two gradients added, or an embedding of its own differentiated.
    `elsewhere` of it is allocated on other streams than the one that computes.
    """

    when: When
    gradients: float
    activations: float
    loss: float = 0.0
    workspace: float = 0.0
    elsewhere: float = 0.0

    @property
    def total(self) -> float:
        return self.gradients + self.activations + self.loss + self.workspace
