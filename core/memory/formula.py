"""Peak memory by formula: microseconds, for the whole table and for every key press.

Bytes at the worst of the moments of a training step: computing the loss, differentiating the last
layer (when all others still keep their inputs), differentiating the first (when all gradients are
there), and the optimiser's update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from core.memory.costs import Layer
from core.memory.layer import decoder_layer
from core.memory.moment import Moment, When
from core.memory.prediction import CUBLAS_WORKSPACES, CUDA_CONTEXT, Parts, Prediction
from core.memory.setup import FUSED_FROM_LOGITS, Objective, Setup, Sharding
from core.memory.sharding import Held, held_by_each, in_parts
from core.memory.trainable import adapted_linears, frozen_beside, trainable, trained_bytes
from core.methods import METHODS, Bits, MethodName
from core.models.catalogue import ModelShape
from core.models.families import packed_bits, window
from core.units import GIB, MIB

Method = MethodName
Device = Literal["cuda", "cpu"]

NF4_BYTES = 0.5 + 1 / 64 + 4 / 16384  # with double quantisation
LOSS_TILE_TOKENS, LOSS_TILE_COLUMNS = 4096, 32768  # TRL's fused head and loss
LOGIT_BYTES = 12  # whole logits: in 16 bits until they are in float32, their softmax, its gradient
LOGIT_BYTES_ON_CPU = 14
PROMPTS = ("prompt", "p-tuning")
WHOLE_BACKWARD = ("full", *PROMPTS)
"""Methods that train something before the first layer; else its first norm keeps nothing."""
EIGHT_BIT_STATES = 2 + 8 / 256  # two bytes a parameter, and two scales for 256 of them

FRAGMENTATION = 0.03  # reserved beyond allocated, with expandable segments
LOADED_WHOLE = (
    "the peak is before the first step: a base in 4 bits is whole on each GPU until it is split"
)
PROCESS_ON_CPU = int(1.1 * GIB)  # Python with the training stack loaded
LOWER, UPPER, SLACK = 0.93, 1.06, 400 * MIB


@dataclass(frozen=True, slots=True)
class Profile:
    """All that does not depend on the batch, in bytes; `differentiated` layers keep something."""

    weights: int
    scales: int
    adapter: int
    trained: int
    gradients: int
    states: int
    paged: int
    layer: Layer
    differentiated: int
    inputs: int
    last_norm: int
    rotation: int
    mask: int
    embedded: int
    first_less: int
    unwound: int
    vocabulary: int
    loss_tokens: int
    head: int
    tied_head: int
    embedded_last: int
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
    bits: Bits | None = None,
    layers: int = 2,
    virtual_tokens: int = 20,
    objective: Objective = "sft",
    gpus: int = 1,
    sharding: Sharding = "auto",
) -> Prediction:
    """The peak of a training process. With `accumulates`, gradients outlive a micro-batch; of
    several GPUs (those of all machines), the fullest. UserError for what cannot be split."""
    setup = Setup(
        shape,
        method,
        rank,
        targets if isinstance(targets, str) else tuple(targets),
        micro_batch,
        seq_length,
        gradient_checkpointing,
        optimizer,
        accumulates,
        dropout,
        bits=bits,
        layers=layers,
        virtual_tokens=virtual_tokens,
        objective=objective,
        gpus=gpus,
        sharding=sharding,
    )
    return predict_setup(setup, device)


def predict_setup(setup: Setup, device: Device = "cuda") -> Prediction:
    """`predict` for a setup."""
    profile = profile_of(setup)
    held = held_of(setup, profile)
    found = [in_parts(setup, held, each) for each in moments(setup, profile, device)]
    inside = _parts(held, max(found, key=lambda each: each.total), device)
    note, loading = profile.note, _loading(held)
    if loading.total > inside.total:
        inside, note = loading, LOADED_WHOLE
    allocated = inside.total
    reserved = int((1 + FRAGMENTATION) * max(allocated, _on_all_streams(held, found, device)))
    paged = profile.paged if held.states == profile.states else profile.paged // setup.gpus
    parts = replace(
        inside,
        optimizer=inside.optimizer + paged,
        runtime=_runtime(device, reserved - allocated) + int(held.beside),
    )
    peak = parts.total
    return Prediction(
        parts,
        low=int(peak * LOWER),
        high=int(peak * UPPER) + (SLACK if device == "cuda" else SLACK // 2),
        reserved=reserved,
        note=note,
        paged=paged,
    )


def held_of(setup: Setup, profile: Profile) -> Held:
    """What one GPU holds through a step."""
    return held_by_each(
        setup,
        weights=profile.weights,
        scales=profile.scales,
        adapter=profile.adapter,
        gradients=profile.gradients,
        states=profile.states,
        trained=profile.trained,
    )


def _parts(held: Held, moment: Moment, device: Device) -> Parts:
    return Parts(
        weights=int(held.weights),
        adapter=int(held.adapter),
        gradients=int(moment.gradients),
        optimizer=int(held.states),
        activations=int(moment.activations),
        loss=int(moment.loss),
        workspace=int(moment.workspace + held.buffers + _workspaces(device)),
        runtime=0,
    )


def _loading(held: Held) -> Parts:
    """Before the first step, where the model is on each GPU whole until it is split."""
    return Parts(int(held.loading), int(held.loading_adapter), 0, 0, 0, 0, 0, 0)


def _on_all_streams(held: Held, found: Sequence[Moment], device: Device) -> float:
    """What each stream needs at its own worst moment: they do not use each other's memory."""
    fixed = held.weights + held.adapter + held.states + held.buffers + _workspaces(device)
    computing = fixed + max(each.total - each.elsewhere for each in found)
    return max(computing, _loading(held).total) + held.elsewhere


def _workspaces(device: Device) -> int:
    return CUBLAS_WORKSPACES if device == "cuda" else 0


def moments(setup: Setup, profile: Profile, device: Device) -> list[Moment]:
    """The moments of a step that can be the worst."""
    length = setup.seq_length
    if setup.method in PROMPTS:
        length += setup.virtual_tokens
    tokens = setup.rows * length
    if setup.method == "prefix":  # what is attended to, and not computed
        length += setup.virtual_tokens
    if setup.one_mask:
        length = tokens
    layer, count, gradients = profile.layer, profile.differentiated, profile.gradients
    saved = layer.saved(tokens, length)
    forward, backward = layer.forward_peak(tokens, length), layer.backward_peak(tokens, length)
    shared: float = (profile.rotation + profile.mask * length) * tokens
    if setup.checkpointed:
        each = own = (profile.inputs + layer.escapes) * tokens
        shared += profile.embedded * tokens
        shared += (setup.shape.layers - count) * each  # frozen layers below keep their input too
        less = 0.0
        last = first = max(forward + profile.unwound * tokens, backward)
    else:
        each, own, less = saved, 0.0, profile.first_less * tokens
        last, first = max(forward, backward), backward
    kept = shared - less + (count - 1) * each
    before = gradients if setup.keeps_gradients else 0
    begun = gradients if setup.keeps_gradients else profile.head or gradients / count
    computed = loss_bytes(
        profile, setup.rows * setup.seq_length, device, whole=setup.of_preferences
    )
    at_head = kept + each + profile.last_norm * tokens
    found = [
        Moment(when, before + (profile.head if when == "fused" else 0), at_head, loss)
        for when, loss in computed.items()
    ] + [
        Moment("last", begun, kept + own + saved, 0, last - saved),
        Moment(
            "first",
            gradients - (0 if setup.keeps_gradients else profile.embedded_last),
            shared - less + own + saved,
            0,
            first - saved,
        ),
        Moment("update", gradients, 0),
    ]
    if setup.in_parts:
        found += [
            Moment("start", before, profile.inputs * tokens),
            Moment("head", before, at_head),
            Moment("embedded", gradients, shared, 0, profile.inputs * tokens),
        ]
    if (
        profile.tied_head
    ):  # the embedding's gradient is made whole, and then the sum with the head's
        found.append(
            Moment("tied", gradients, shared, 0, profile.tied_head + profile.inputs * tokens)
        )
    return found


def loss_bytes(
    profile: Profile, tokens: int, device: Device, *, whole: bool = False
) -> dict[When, int]:
    """Whole logits where they are few, and always on a CPU or where `whole`; else the fused head,
    by tiles. Every token counts as trained on, or as few as have whole logits."""
    logits = tokens * profile.vocabulary
    trained = 2 * profile.head  # its gradient in float32, before it is cast
    if device == "cpu":
        return {"loss": LOGIT_BYTES_ON_CPU * logits + trained + profile.head}
    if whole or logits <= FUSED_FROM_LOGITS:
        return {"loss": LOGIT_BYTES * logits}
    tile = 2 * min(tokens, LOSS_TILE_TOKENS) * min(profile.vocabulary, LOSS_TILE_COLUMNS)
    return {
        "loss": LOGIT_BYTES * FUSED_FROM_LOGITS,
        "fused": tile + profile.loss_tokens * tokens + trained,
    }


def weight_bytes(shape: ModelShape, bits: Bits) -> int:
    """The base model: 16-bit, but for the decoder's linears where they are quantised."""
    if packed_bits(shape, bits) == 16:
        return 2 * shape.parameters
    each = NF4_BYTES if bits == 4 else 1.0
    return int(shape.in_linear * each) + 2 * (shape.parameters - shape.in_linear)


def _scale_bytes(shape: ModelShape, bits: Bits) -> int:
    """Of the weights in 4 bits what is no parameter, and so in no part of any."""
    return int(shape.in_linear * (NF4_BYTES - 0.5)) if packed_bits(shape, bits) == 4 else 0


def profile_of(setup: Setup) -> Profile:
    return _profile(
        setup.shape,
        setup.method,
        setup.base_bits,
        setup.rank,
        setup.targets,
        setup.dropout > 0,
        setup.optimizer,
        setup.layers,
        setup.virtual_tokens,
        setup.method == "prefix"
        or setup.one_mask
        or setup.seq_length > (window(setup.shape) or setup.seq_length),
        setup.in_parts and setup.sharding == "zero3",
    )


@cache
def _profile(
    shape: ModelShape,
    method: Method,
    bits: Bits,
    rank: int,
    targets: str | tuple[str, ...],
    dropout: bool,
    optimizer: str,
    layers: int,
    virtual_tokens: int,
    masked: bool,
    inputs_kept: bool,
) -> Profile:
    adapted = adapted_linears(shape, method, targets)
    trained = trainable(shape, method, rank, adapted, layers=layers, virtual_tokens=virtual_tokens)
    held = trained * trained_bytes(method, bits)
    spec = METHODS[method]
    embedding = 2 * shape.vocabulary * shape.hidden
    states, paged = _state_bytes(shape, method, optimizer, trained, held)
    return Profile(
        weights=weight_bytes(shape, bits) + frozen_beside(shape, method, rank, adapted),
        scales=_scale_bytes(shape, bits) + frozen_beside(shape, method, rank, adapted),
        adapter=held if spec.has_adapter else 0,
        trained=trained,
        gradients=held,
        states=states,
        paged=paged,
        layer=decoder_layer(shape, method, bits, rank, adapted, dropout, masked, inputs_kept),
        differentiated=min(layers, shape.layers) if method == "last-layers" else shape.layers,
        inputs=2 * shape.hidden,
        last_norm=4 * shape.hidden,
        rotation=4 * shape.head_dim,
        mask=1 if masked else 0,  # of booleans, for all layers
        embedded=2 * shape.hidden if method in PROMPTS else 0,
        unwound=shape.hidden * (2 if spec.kind != "adapter" else 2 * trained_bytes(method, bits)),
        first_less=0 if method in WHOLE_BACKWARD else 4 * shape.hidden + 4,
        vocabulary=shape.vocabulary,
        loss_tokens=8 * shape.hidden,
        head=embedding if method == "full" else 0,
        tied_head=2 * embedding if shape.tied and method == "full" else 0,
        embedded_last=0 if shape.tied or method != "full" else embedding,
        note=_note(shape, bits),
    )


def _state_bytes(
    shape: ModelShape, method: Method, optimizer: str, trained: int, held: int
) -> tuple[int, int]:
    """The optimiser's states: in torch's memory, and paged by bitsandbytes beside it."""
    if optimizer == "sgd":
        return 0, 0
    if optimizer == "adamw":
        return 2 * held, 0
    embedding = shape.vocabulary * shape.hidden if method == "full" else 0  # kept in 32 bits
    packed = int((trained - embedding) * EIGHT_BIT_STATES)
    if optimizer == "paged-adamw-8bit":
        return 0, packed + 8 * embedding
    return packed + 8 * embedding, 0


def _runtime(device: Device, gaps: int) -> int:
    return PROCESS_ON_CPU if device == "cpu" else CUDA_CONTEXT + gaps


def _note(shape: ModelShape, bits: Bits) -> str:
    if packed_bits(shape, bits) != bits:
        return f"{bits}-bit does not reach this model: its linears are of a kind of their own"
    if shape.experts and bits < 16:
        share = shape.in_linear / shape.parameters
        return (
            f"{bits}-bit reaches only {share:.0%} of this mixture of experts: "
            "the experts stay 16-bit"
        )
    return ""
