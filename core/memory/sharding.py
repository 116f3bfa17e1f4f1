"""What several GPUs change for each of them: what is split, and the buffers to speak with.

DDP and FSDP2 are held to the simulation (tests/bench/formula_vs_simulation.py), which runs torch's
own; nothing of this is measured on GPUs yet.

- DDP (torch/csrc/distributed/c10d/reducer.cpp): every gradient is copied into a flat bucket, since
  `gradient_as_bucket_view` is off; all buckets together are as large as the gradients.
- FSDP2 (torch/distributed/fsdp/_fully_shard, accelerate's `fsdp2_prepare_model`): one group a
  decoder layer, one for the embedding and one for the head, or one for both where they are tied.
  A group is gathered into one flat buffer, from which it is copied out; that buffer stays until
  the next group has been copied out in the forward pass. Gradients of a layer are whole before they
  are split, once as they are and once in the buffer that is sent. NF4's scales are no parameters,
  and whole on each GPU; a base in 4 bits is on each GPU whole until it is split.
- ZeRO-3 (DeepSpeed 0.19, runtime/zero) is read in its source and not simulated: 18 bytes a trained
  parameter are split (the 16-bit weight, a float32 copy, its gradient and two states), as its own
  `estimate_zero3_model_states_mem_needs` counts. Up to 1e9 gathered parameters may stay alive
  (`stage3_max_live_parameters`, its default, which the trainer leaves), and gradients are reduced
  through one bucket of hidden² float32 numbers (what transformers makes of `auto`).
- NCCL's buffers beside torch's memory are an assumption: each channel has FIFOs of 4 MiB
  (NCCL_BUFFSIZE), and how many channels there are depends on the links between the GPUs
  (NVIDIA/nccl#986); 16 channels, both ways, with the two smaller protocols are about 256 MiB.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.errors import UserError
from core.memory.moment import Moment
from core.memory.setup import Setup
from core.methods import METHODS
from core.models.catalogue import ModelShape
from core.models.families import layer_parameters
from core.units import MIB, bytes_text

NCCL_BUFFERS = 256 * MIB  # assumed
ZERO_LIVE_PARAMETERS = 1_000_000_000
ZERO_BUCKET_BYTES = 4
ZERO_BYTES_A_TRAINED = 16  # beside the 16-bit weight: float32 copy, gradient and two states


@dataclass(frozen=True, slots=True)
class Held:
    """What one GPU holds through a step, in bytes, and what it needs beside for the others' sake.

    `buffers` are there all the time, `beside` lies beside torch's memory. `gradients` is the share
    of all of them that stays. FSDP gathers a `layer` (weights and adapter), whose gradients are
    `reduced`, and an embedding or a head (`table`). `loading` is what is there before the model
    is split; `elsewhere` is allocated on other streams than the one that computes.
    """

    weights: float
    adapter: float
    gradients: float
    states: float
    buffers: float = 0.0
    beside: float = 0.0
    layer: float = 0.0
    reduced: float = 0.0
    table: float = 0.0
    loading: float = 0.0
    loading_adapter: float = 0.0

    @property
    def elsewhere(self) -> float:
        """FSDP's streams: two gatherings at a time, and the gradients that stay."""
        if not self.layer:
            return 0.0
        return self.layer + max(self.table, self.layer) + self.gradients


def check_sharding(setup: Setup) -> None:
    """UserError for what cannot be split, and for what does not train where it is."""
    if not setup.in_parts:
        return
    _check_bits(setup)
    if setup.sharding == "fsdp" and "8bit" in setup.optimizer:
        raise UserError(
            f"FSDP cannot split the states of {setup.optimizer}: bitsandbytes does not know parts "
            "of a parameter.",
            "Choose adamw, or ddp.",
        )
    method = METHODS[setup.method]
    if not method.can_be_split:
        raise UserError(
            f"{method.title} reads or writes single weights, which are nowhere whole where a model "
            "is split.",
            "Choose ddp, or another method.",
        )


def _check_bits(setup: Setup) -> None:
    bits = setup.base_bits
    if setup.sharding == "zero3" and bits < 16:
        raise UserError(
            f"ZeRO-3 cannot split a base in {bits} bits.", "Choose fsdp, or lora on a 16-bit base."
        )
    if setup.sharding == "fsdp" and bits == 8:
        raise UserError("FSDP cannot split a base in 8 bits.", "Choose 4 or 16 bits, or ddp.")


def assumptions(setup: Setup) -> str:
    """What of a prediction for several GPUs was neither simulated nor measured; else nothing."""
    if setup.gpus == 1:
        return ""
    nccl = f"NCCL's buffers are assumed to take {bytes_text(NCCL_BUFFERS)}"
    if setup.sharding != "zero3":
        return nccl
    return f"{nccl}, and DeepSpeed's what its settings allow; neither is simulated"


def held_by_each(
    setup: Setup,
    *,
    weights: int,
    scales: int,
    adapter: int,
    gradients: int,
    states: int,
    trained: int,
) -> Held:
    """A GPU's share of what one alone would hold. `scales` of the weights are in no part."""
    if setup.gpus == 1:
        return Held(weights, adapter, gradients, states)
    if not setup.in_parts:
        return Held(weights, adapter, gradients, states, buffers=gradients, beside=NCCL_BUFFERS)
    _check_bits(setup)
    if setup.sharding == "zero3":
        return _zero3(setup, weights, adapter, trained)
    return _fsdp(setup, weights, scales, adapter, gradients, states)


def in_parts(setup: Setup, held: Held, moment: Moment) -> Moment:
    """A moment of one GPU's step as it is where others hold parts of the model."""
    if not setup.in_parts:
        return moment
    if setup.sharding == "fsdp":
        return _gathered(setup, held, moment)
    return replace(moment, gradients=held.gradients)


def _fsdp(
    setup: Setup, weights: int, scales: int, adapter: int, gradients: int, states: int
) -> Held:
    shape, share = setup.shape, 1 / setup.gpus
    parts = weights - scales
    table = 2 * shape.vocabulary * shape.hidden
    outside = table if shape.tied else 2 * table
    whole = setup.method == "full"
    packed = setup.base_bits < 16
    return Held(
        parts * share + scales,
        adapter * share,
        gradients * share,
        states * share,
        beside=NCCL_BUFFERS,
        layer=(parts - outside + adapter) / shape.layers,
        reduced=(gradients - (outside if whole else 0)) / shape.layers,
        table=table,
        loading=parts * (1 + share) + scales if packed else 0.0,
        loading_adapter=adapter * (1 + share) if packed else 0.0,
    )


def _gathered(setup: Setup, held: Held, moment: Moment) -> Moment:
    """With what FSDP2 has gathered and not yet given back.

    In the backward pass a layer is whole while the one before it is being gathered, and what the
    one after it has sent is still there. A tied embedding is whole all through the step; a head of
    its own until its gradient is sent, an embedding of its own is gathered behind the first layer.
    The gradients of whole layers stay until the last micro-batch of a step.
    """
    table, layer = held.table, held.layer
    tied = setup.shape.tied
    stays = table if tied else 0.0
    whole_head = table if setup.method == "full" else 0.0
    share = 1 / setup.gpus
    if moment.when == "start":
        return replace(moment, workspace=table + stays + 2 * layer, elsewhere=table + layer)
    if moment.when == "head":
        gathered = table + layer if not tied else 2 * layer
        return replace(moment, workspace=gathered + table, elsewhere=gathered - layer * tied)
    if moment.when == "loss":
        return replace(moment, workspace=moment.workspace + table, elsewhere=0.0)
    if moment.when == "fused":
        return replace(moment, workspace=moment.workspace + table + layer, elsewhere=layer)
    if moment.when == "last":
        sent = share * whole_head * (not tied)
        return replace(
            moment,
            gradients=moment.gradients + sent,
            workspace=moment.workspace + 2 * layer + stays,
            elsewhere=layer + sent,
        )
    if moment.when == "first":
        at_two = (_at_layer(setup, held, moment, index) for index in (0, 1))
        return max(at_two, key=lambda each: each.total)
    if moment.when == "update":
        return replace(moment, gradients=held.gradients, elsewhere=held.gradients)
    if moment.when == "tied":
        done = held.gradients - share * table
        return replace(
            moment,
            gradients=done + table,
            workspace=moment.workspace + table + held.reduced,
            elsewhere=done,
        )
    return replace(
        moment,
        gradients=held.gradients,
        workspace=moment.workspace + held.reduced + (0 if tied else 2 * table),
        elsewhere=held.gradients + (0 if tied else table),
    )


def _at_layer(setup: Setup, held: Held, moment: Moment, index: int) -> Moment:
    """The first or second layer being differentiated: of its own gradients those of the MLP are
    there, the gradients of the layer behind it are being sent, and the layer before it, or an
    embedding of its own, is gathered."""
    shape, share = setup.shape, 1 / setup.gpus
    tied = shape.tied
    whole_head = held.table if setup.method == "full" else 0.0
    done = held.gradients - share * ((index + 1) * held.reduced + whole_head)
    behind = held.layer if index else held.table * (not tied)
    own = min(held.reduced, 4.0 * shape.hidden * shape.intermediate)
    kept = whole_head * tied + (index * held.reduced if setup.accumulates else 0.0)
    return replace(
        moment,
        gradients=done + kept + own,
        workspace=moment.workspace + held.layer + behind + held.reduced + held.table * tied,
        elsewhere=behind + done,
    )


def _zero3(setup: Setup, weights: int, adapter: int, trained: int) -> Held:
    shape, share = setup.shape, 1 / setup.gpus
    split = ZERO_BYTES_A_TRAINED * trained * share
    return Held(
        weights * share,
        adapter * share,
        split / 4,
        split - split / 4,
        buffers=_alive(shape) + ZERO_BUCKET_BYTES * shape.hidden**2,
        beside=NCCL_BUFFERS,
    )


def _alive(shape: ModelShape) -> float:
    """At least a layer and the embedding, at most what DeepSpeed lets live, or everything."""
    least = layer_parameters(shape) + shape.vocabulary * shape.hidden
    return 2.0 * min(shape.parameters, max(least, ZERO_LIVE_PARAMETERS))
