"""What several GPUs change for each of them: what is split, and the buffers to speak with.

All of it is held to the simulation (tests/bench/formula_vs_simulation.py), which runs torch's own
DDP and FSDP2 and DeepSpeed's own ZeRO-3; nothing of this is measured on GPUs yet.

- DDP (torch/csrc/distributed/c10d/reducer.cpp): every gradient is copied into a flat bucket, since
  `gradient_as_bucket_view` is off; all buckets together are as large as the gradients.
- FSDP2 (torch/distributed/fsdp/_fully_shard, accelerate's `fsdp2_prepare_model`): one group a
  decoder layer, one for the embedding and one for the head, or one for both where they are tied.
  A group is gathered into one flat buffer, from which it is copied out; that buffer stays until
  the next group has been copied out in the forward pass. Gradients of a layer are whole before they
  are split, once as they are and once in the buffer that is sent. NF4's scales are no parameters,
  and whole on each GPU; a base in 4 bits is on each GPU whole until it is split.
- ZeRO-3 (DeepSpeed 0.19, runtime/zero/stage3.py): split are the weight, a float32 copy of what is
  trained, its gradient in 16 bits and the optimiser's states. Gradients go through one bucket of
  hidden² 16-bit numbers (what transformers makes of `auto`); larger ones are whole until they are
  sent. Up to 1e9 gathered parameters stay alive (`stage3_max_live_parameters` and
  `stage3_max_reuse_distance`, whose defaults the trainer leaves). The update takes the parameters
  in groups of 1e9 (`sub_group_size`), of which it puts the gradients together, in 16 bits and then
  in float32. Its linears keep their input, also where they are frozen (runtime/zero/linear.py).
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
ZERO_STATES = {"adamw": 8.0, "adamw-8bit": 2 + 8 / 256}
"""Bytes a parameter in torch's memory, for flat float32 parts."""
ZERO_LIVE_PARAMETERS = ZERO_SUB_GROUP = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Held:
    """What one GPU holds through a step, in bytes, and what it needs beside for the others' sake.

    `buffers` are there all the time, `beside` lies beside torch's memory. `gradients` is the share
    of all of them that stays. FSDP gathers a `layer` (weights and adapter), whose gradients are
    `reduced`, and an embedding or a head (`table`). ZeRO-3 has gathered weights `alive`, and
    needs some more for its `update`, which leaves holes (`apart`). `loading` is what is there
    before the model is split; `elsewhere` is allocated on other streams than the one that computes.
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
    alive: float = 0.0
    update: float = 0.0
    apart: float = 0.0
    loading: float = 0.0
    loading_adapter: float = 0.0

    @property
    def elsewhere(self) -> float:
        """FSDP's streams: two gatherings at a time, and the gradients that stay. DeepSpeed's: what
        is gathered, and holes that its flat gradients do not fit."""
        if not self.layer:
            return self.alive + self.apart
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
    """What of a prediction for several GPUs is neither simulated nor measured; else nothing."""
    if setup.gpus == 1:
        return ""
    return f"NCCL's buffers are assumed to take {bytes_text(NCCL_BUFFERS)}"


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
    return _reduced(setup, held, moment)


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
    """
    table, layer = held.table, held.layer
    tied = setup.shape.tied
    stays = table if tied else 0.0
    whole_head = table if setup.method == "full" else 0.0
    earlier = held.gradients if setup.accumulates else 0.0
    if moment.when in ("start", "head", "loss", "fused"):
        gathered, elsewhere = {
            "start": (stays + 2 * layer, table + layer),
            "head": (2 * layer if tied else table + layer, layer + table * (not tied)),
            "loss": (moment.workspace, 0.0),
            "fused": (moment.workspace + layer, layer),
        }[moment.when]
        return replace(
            moment,
            gradients=moment.gradients + earlier,
            workspace=gathered + table,
            elsewhere=elsewhere + earlier,
        )
    if moment.when == "last":
        sent = earlier or whole_head * (not tied) / setup.gpus
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
        done = _in_parts_already(setup, held, table)
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
    shape, tied = setup.shape, setup.shape.tied
    whole_head = held.table if setup.method == "full" else 0.0
    done = _in_parts_already(setup, held, (index + 1) * held.reduced + whole_head)
    behind = held.layer if index else held.table * (not tied)
    own = min(held.reduced, 4.0 * shape.hidden * shape.intermediate)
    return replace(
        moment,
        gradients=done + whole_head * tied + own,
        workspace=moment.workspace + held.layer + behind + held.reduced + held.table * tied,
        elsewhere=behind + done,
    )


def _in_parts_already(setup: Setup, held: Held, left: float) -> float:
    """Of the gradients' parts those that are there while `left` bytes are still whole, or not yet
    computed; where gradients are accumulated, all are there from the micro-batch before."""
    return held.gradients - (0 if setup.accumulates else left / setup.gpus)


def _zero3(setup: Setup, weights: int, adapter: int, trained: int) -> Held:
    shape, own = setup.shape, trained / setup.gpus
    table = 2 * shape.vocabulary * shape.hidden
    whole = max(table, 2 * _experts(shape))  # until it is in parts
    return Held(
        weights / setup.gpus,
        adapter / setup.gpus,
        2 * own,
        (4 + ZERO_STATES.get(setup.optimizer, 0.0)) * own,
        buffers=2 * shape.hidden**2,
        beside=NCCL_BUFFERS,
        table=table,
        alive=min(2.0 * shape.parameters + adapter, 2.0 * _alive(shape)),
        update=6 * min(own, ZERO_SUB_GROUP),
        loading=(weights + whole) / setup.gpus + whole,
        apart=2 * min(own, ZERO_SUB_GROUP) + table * (not shape.tied),
    )


def _alive(shape: ModelShape) -> int:
    """Parameters: a layer and the embedding at least, else what DeepSpeed lets live. A layer's
    experts, two tensors of one module, are gathered into one buffer and copied out of it."""
    least = layer_parameters(shape) + _experts(shape) + shape.vocabulary * shape.hidden
    return max(least, ZERO_LIVE_PARAMETERS)


def _experts(shape: ModelShape) -> int:
    """Parameters of a layer's."""
    return 3 * (shape.experts or 0) * shape.hidden * (shape.expert_width or shape.intermediate)


def _reduced(setup: Setup, held: Held, moment: Moment) -> Moment:
    """With what ZeRO-3 has gathered, and the gradients that are not yet in parts."""
    tied, full = setup.shape.tied, setup.method == "full"
    head = held.table if full else 0.0
    if moment.when == "update":
        return replace(moment, gradients=held.gradients, workspace=held.update)
    whole = {
        "fused": head,
        "last": head,
        "first": head * tied,
        "tied": head,
    }.get(moment.when, 0.0)
    alive = held.alive
    if moment.when in ("loss", "fused"):  # a head larger than the limit is alone
        alive = min(alive, max(held.table, 2.0 * ZERO_LIVE_PARAMETERS))
    if moment.when == "first" and not (tied or full):  # a frozen head of its own is kept so long
        alive += held.table
    return replace(
        moment,
        gradients=held.gradients + whole,
        workspace=moment.workspace + alive,
        elsewhere=alive,
    )
