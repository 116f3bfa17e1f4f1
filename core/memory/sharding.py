"""What several GPUs change for each of them: what is split, and the buffers to speak with.

Read in the sources, not simulated and not yet measured on GPUs:

- DDP (torch/csrc/distributed/c10d/reducer.cpp): every gradient is copied into a flat bucket, since
  `gradient_as_bucket_view` is off; all buckets together are as large as the gradients.
- FSDP2 (torch/distributed/fsdp/_fully_shard): one group a decoder layer; parameters, gradients and
  states are split. While a layer runs, it is whole, and the next one is being gathered: into one
  flat buffer, from which it is copied out. Embedding, head and last norm are the root's group,
  which stays whole through the step. A layer's gradients are whole before they are split, once
  as they are and once in the buffer that is sent.
- ZeRO-3 (deepspeed/runtime/zero): 18 bytes a trained parameter are split (16-bit weights, a float32
  copy, its gradient and two states), as its own `estimate_zero3_model_states_mem_needs` counts.
  Up to 1e9 gathered parameters stay alive (`stage3_max_live_parameters`), and gradients are
  reduced through two buckets of hidden² elements (what transformers makes of `auto`).
- NCCL holds 4 MiB a channel and direction (NCCL_BUFFSIZE) beside torch's memory; with its usual
  16 channels and three protocols that is about 256 MiB.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import UserError
from core.memory.setup import Setup
from core.models.catalogue import ModelShape
from core.models.families import layer_parameters
from core.units import MIB

NCCL_BUFFERS = 256 * MIB
ZERO_LIVE_PARAMETERS = 1_000_000_000
ZERO_BYTES_A_TRAINED = 16  # beside the 16-bit weight: float32 copy, gradient and two states


@dataclass(frozen=True, slots=True)
class Held:
    """What one GPU holds, in bytes; `buffers` are gathered layers and buckets."""

    weights: float
    adapter: float
    gradients: float
    states: float
    buffers: float = 0.0
    beside: float = 0.0


def check_sharding(setup: Setup) -> None:
    """UserError for what cannot be split."""
    if setup.gpus == 1:
        return
    bits = setup.base_bits
    if setup.sharding == "zero3" and bits < 16:
        raise UserError(
            f"ZeRO-3 cannot split a base in {bits} bits.", "Choose fsdp, or lora on a 16-bit base."
        )
    if setup.sharding == "fsdp" and bits == 8:
        raise UserError("FSDP cannot split a base in 8 bits.", "Choose 4 or 16 bits, or ddp.")


def held_by_each(
    setup: Setup, *, weights: int, adapter: int, gradients: int, states: int, trained: int
) -> Held:
    """A GPU's share of what one alone would hold. `auto` is a copy on each, as it is in a run
    whose copy fits."""
    if setup.gpus == 1:
        return Held(weights, adapter, gradients, states)
    check_sharding(setup)
    if setup.sharding == "fsdp":
        return _fsdp(setup, weights, adapter, gradients, states)
    if setup.sharding == "zero3":
        return _zero3(setup, weights, adapter, trained)
    return Held(weights, adapter, gradients, states, buffers=gradients, beside=NCCL_BUFFERS)


def _fsdp(setup: Setup, weights: int, adapter: int, gradients: int, states: int) -> Held:
    shape, share = setup.shape, 1 / setup.gpus
    root = 2 * shape.embedding
    layer = (weights - root + adapter) / shape.layers
    whole = 2 * layer + layer  # this layer and the next, and the buffer one is gathered in
    reduced = 2 * gradients / shape.layers
    split = 1 - share  # of what is gathered, a share is the GPU's own already
    return Held(
        weights * share,
        adapter * share,
        gradients * share,
        states * share,
        buffers=root * split + whole + reduced,
        beside=NCCL_BUFFERS,
    )


def _zero3(setup: Setup, weights: int, adapter: int, trained: int) -> Held:
    shape, share = setup.shape, 1 / setup.gpus
    split = ZERO_BYTES_A_TRAINED * trained * share
    return Held(
        weights * share,
        adapter * share,
        split / 4,
        split - split / 4,
        buffers=_gathered(shape) + 4 * shape.hidden**2,
        beside=NCCL_BUFFERS,
    )


def _gathered(shape: ModelShape) -> float:
    """At least a layer and the embedding, at most what DeepSpeed lets live, or everything."""
    least = layer_parameters(shape) + shape.vocabulary * shape.hidden
    return 2.0 * min(shape.parameters, max(least, ZERO_LIVE_PARAMETERS))
