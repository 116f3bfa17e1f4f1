"""Peak memory by formula: microseconds, for the whole table and for every key press.

Bytes at the worst of the moments of a training step: computing the loss, differentiating one
layer, and the optimiser's update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from core.memory.activations import layer_cost
from core.memory.prediction import CUDA_CONTEXT, Parts, Prediction
from core.memory.setup import Setup
from core.methods import MethodName
from core.models.catalogue import ModelShape
from core.models.families import Linear, linears, targeted
from core.units import GIB, MIB

Method = MethodName
Device = Literal["cuda", "cpu"]

NF4_BYTES = 0.5 + 1 / 64 + 4 / 16384  # with double quantisation
LOSS_TILE_TOKENS, LOSS_TILE_COLUMNS = 4096, 32768  # TRL's fused head and loss
LOGIT_BYTES = 14  # whole logits: in 16 bits, in float32, their softmax, their gradient
MOST_WHOLE_LOGITS = 2**25  # beyond which the trainer takes the fused head
STATE_BYTES = {"adamw": None, "adamw-8bit": 2.03, "paged-adamw-8bit": 2.03, "sgd": 0.0}
"""Bytes of optimiser state a parameter; None: two copies in the parameter's own type."""

FRAGMENTATION = 0.03  # reserved beyond allocated, with expandable segments
PROCESS_ON_CPU = int(1.1 * GIB)  # Python with the training stack loaded
LOWER, UPPER, SLACK = 0.93, 1.06, 400 * MIB


@dataclass(frozen=True, slots=True)
class _Profile:
    """All that does not depend on the batch: bytes, and bytes per token."""

    weights: int
    adapter: int
    trained: int
    gradients: int
    saved: float
    squared: float
    workspace: float
    inputs: int
    layers: int
    last_norm: int
    loss_columns: int
    loss_tokens: int
    loss_head: int
    dequantised: int
    tied_head: int
    small: bool
    note: str


def predict(
    shape: ModelShape,
    method: Method,
    rank: int = 16,
    targets: str | Sequence[str] = "all-linear",
    micro_batch: int = 1,
    seq_length: int = 1024,
    gradient_checkpointing: bool = True,
    optimizer: str = "adamw",
    *,
    device: Device = "cuda",
    accumulates: bool = False,
    dropout: float = 0.0,
) -> Prediction:
    """The peak of a training process. With `accumulates`, gradients outlive a micro-batch."""
    chosen = targets if isinstance(targets, str) else tuple(targets)
    profile = _profile(shape, method, rank, chosen, dropout > 0)
    moment = _worst_moment(
        profile, micro_batch * seq_length, seq_length, gradient_checkpointing, device, accumulates
    )
    update = (profile.gradients, 0, 0, 0)  # the fused optimiser makes no further copy
    moment = max(moment, update, key=sum)
    states = _state_bytes(optimizer, profile)
    allocated = profile.weights + profile.adapter + states + sum(moment)
    gradients, activations, loss, workspace = moment
    parts = Parts(
        weights=profile.weights,
        adapter=profile.adapter,
        gradients=gradients,
        optimizer=states,
        activations=activations,
        loss=loss,
        workspace=workspace,
        runtime=_runtime(allocated, device),
    )
    peak = parts.total
    return Prediction(
        parts,
        low=int(peak * LOWER),
        high=int(peak * UPPER) + (SLACK if device == "cuda" else SLACK // 2),
        reserved=int(allocated * (1 + FRAGMENTATION)),
        note=profile.note,
    )


def predict_setup(setup: Setup) -> Prediction:
    """`predict` for a setup, on a GPU."""
    return predict(
        setup.shape,
        setup.method,  # type: ignore[arg-type]
        setup.rank,
        setup.targets,
        setup.micro_batch,
        setup.seq_length,
        setup.gradient_checkpointing,
        setup.optimizer,
        accumulates=setup.accumulates,
        dropout=setup.dropout,
    )


def trainable(shape: ModelShape, method: Method, rank: int, adapted: Sequence[Linear]) -> int:
    """How many parameters are trained."""
    if method == "full":
        return shape.parameters
    return shape.layers * sum(rank * (linear.inputs + linear.outputs) for linear in adapted)


def trained_bytes(method: Method) -> int:
    """Bytes a trained parameter: adapters are float32 on a 16-bit base, 16-bit on a 4-bit one."""
    return 4 if method == "lora" else 2


def weight_bytes(shape: ModelShape, method: Method) -> int:
    """The base model: 16-bit, and 4-bit where QLoRA quantises it."""
    if method != "qlora":
        return 2 * shape.parameters
    return int(shape.in_linear * NF4_BYTES) + 2 * (shape.parameters - shape.in_linear)


@cache
def _profile(
    shape: ModelShape, method: Method, rank: int, targets: str | tuple[str, ...], dropout: bool
) -> _Profile:
    adapted = targeted(shape, targets) if method != "full" else ()
    cost = layer_cost(shape, method, rank, adapted, dropout)
    trained, full = trainable(shape, method, rank, adapted), method == "full"
    held = trained * trained_bytes(method)
    embedding = shape.vocabulary * shape.hidden
    return _Profile(
        weights=weight_bytes(shape, method),
        adapter=0 if full else held,
        trained=trained,
        gradients=held,
        saved=cost.saved,
        squared=cost.squared,
        workspace=cost.workspace,
        inputs=2 * shape.hidden * shape.layers,
        layers=shape.layers,
        last_norm=6 * shape.hidden,
        loss_columns=shape.vocabulary,
        loss_tokens=8 * shape.hidden,
        loss_head=6 * embedding if full else 0,
        dequantised=_dequantised(shape, method),
        tied_head=2 * embedding if shape.tied and full else 0,
        small=not full,
        note=_note(shape, method),
    )


def _state_bytes(optimizer: str, profile: _Profile) -> int:
    each = STATE_BYTES[optimizer]
    return 2 * profile.gradients if each is None else int(profile.trained * each)


Moment = tuple[int, int, int, int]
"""(gradients, activations, loss, workspace) in bytes."""


def _worst_moment(
    profile: _Profile,
    tokens: int,
    length: int,
    checkpointing: bool,
    device: Device,
    accumulates: bool,
) -> Moment:
    """The largest of: the loss, the last layer, the first layer."""
    saved = int(tokens * (profile.saved + profile.squared * length))
    workspace = int(tokens * profile.workspace)
    loss = _loss_bytes(profile, tokens, device)
    gradients = profile.gradients
    # adapters' gradients are too small to care when they come
    early = gradients if profile.small or accumulates else 0
    if not checkpointing:
        kept = profile.layers * saved + profile.last_norm * tokens
        moments = [
            (early, kept, loss, 0),
            (early, kept, 0, workspace),
            (gradients, saved, 0, workspace),
        ]
        return max(moments, key=sum)
    kept, unpacked = profile.inputs * tokens, profile.dequantised
    moments = [
        (early, kept, loss, 0),
        (early, kept + saved, 0, workspace + unpacked),
        (gradients, saved, 0, workspace + unpacked + profile.tied_head),
    ]
    return max(moments, key=sum)


def _loss_bytes(profile: _Profile, tokens: int, device: Device) -> int:
    """Whole logits where they are few, and always on a CPU; else the fused head, by tiles."""
    logits = tokens * profile.loss_columns
    if device == "cpu":
        return LOGIT_BYTES * logits + profile.loss_head
    whole = LOGIT_BYTES * min(logits, MOST_WHOLE_LOGITS) + profile.loss_head
    if logits <= MOST_WHOLE_LOGITS:
        return whole
    tile = 2 * min(tokens, LOSS_TILE_TOKENS) * min(profile.loss_columns, LOSS_TILE_COLUMNS)
    return max(whole, tile + profile.loss_tokens * tokens + profile.loss_head)


def _dequantised(shape: ModelShape, method: Method) -> int:
    """QLoRA's backward unpacks one weight at a time."""
    return 2 * max(linear.weights for linear in linears(shape)) if method == "qlora" else 0


def _runtime(allocated: int, device: Device) -> int:
    if device == "cpu":
        return PROCESS_ON_CPU
    return CUDA_CONTEXT + int(allocated * FRAGMENTATION)


def _note(shape: ModelShape, method: Method) -> str:
    if shape.experts and method == "qlora":
        share = shape.in_linear / shape.parameters
        return f"4-bit reaches only {share:.0%} of this mixture of experts: the experts stay 16-bit"
    return ""
