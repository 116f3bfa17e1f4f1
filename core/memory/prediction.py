"""A memory prediction: parts that add up, and an interval that holds the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core.units import MIB

CUDA_CONTEXT = 600 * MIB  # context and libraries; 0.3-1.4 GB by card and driver
CUBLAS_WORKSPACES = 2 * 8_519_680  # torch's default; one for each of the two threads that compute

How = Literal["formula", "simulated", "measured"]

EXPLAINED = {
    "weights": "the base model",
    "adapter": "what is trained beside the base",
    "gradients": "one for each trained parameter",
    "optimizer": "its running averages for each trained parameter",
    "activations": "what the forward pass keeps for the backward pass",
    "loss": "the head's logits, tile by tile, and their gradient",
    "workspace": "short-lived tensors while one layer is differentiated",
    "runtime": "the CUDA context, its libraries, and gaps in the allocator",
}
"""What each part is, for the breakdown."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Bytes at the moment of the peak; `total` is their sum."""

    weights: int
    adapter: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    workspace: int
    runtime: int

    @property
    def total(self) -> int:
        held = self.weights + self.adapter + self.gradients + self.optimizer
        return held + self.activations + self.loss + self.workspace + self.runtime


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the process will peak at, in bytes, as NVML shows it.

    `reserved` is what torch's allocator holds at the peak, `allocated` what of it is in use.
    `paged` of the optimiser's bytes lie beside torch's allocator, where NVML sees them. `note`
    says what is out of the ordinary (experts that 4-bit does not reach).
    """

    parts: Parts
    low: int
    high: int
    how: How = "formula"
    reserved: int = 0
    note: str = ""
    paged: int = 0

    @property
    def peak(self) -> int:
        return self.parts.total

    @property
    def allocated(self) -> int:
        return self.peak - self.parts.runtime - self.paged
