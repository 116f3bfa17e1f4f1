"""What the decoder layers of each architecture are made of, as transformers builds them.

From this follow exact parameter counts and which layers LoRA adapts. Confirmed for every preset
against transformers' own models on the meta device (tests/core/models).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from core.methods import Bits

if TYPE_CHECKING:
    from core.models.catalogue import ModelShape

LLAMA_LIKE = frozenset(
    {"llama", "mistral", "smollm3", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "gemma"}
)
MOE = frozenset({"mixtral", "qwen3_moe", "gpt_oss", "llama4_text"})
FUSED = frozenset({"phi3"})
PLAIN_MLP = frozenset({"phi", "falcon", "bloom"})
GEMMA3_1B_HIDDEN = 1152
OWN_LINEARS = frozenset({"falcon"})
KNOWN = LLAMA_LIKE | MOE | FUSED | PLAIN_MLP


@dataclass(frozen=True, slots=True)
class Linear:
    """One adaptable linear of a decoder layer. `role` is what it does, whatever its name."""

    name: str
    role: str
    inputs: int
    outputs: int

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@cache
def linears(shape: ModelShape) -> tuple[Linear, ...]:
    """The linears of one decoder layer that LoRA's `all-linear` adapts."""
    h, i = shape.hidden, shape.intermediate
    q, k = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    kind = shape.model_type
    if kind in FUSED:
        return (
            Linear("qkv_proj", "qkv", h, q + 2 * k),
            Linear("o_proj", "o", q, h),
            Linear("gate_up_proj", "gate_up", h, 2 * i),
            Linear("down_proj", "down", i, h),
        )
    if kind in ("falcon", "bloom"):
        return (
            Linear("query_key_value", "qkv", h, q + 2 * k),
            Linear("dense", "o", q, h),
            Linear("dense_h_to_4h", "up", h, i),
            Linear("dense_4h_to_h", "down", i, h),
        )
    attention: tuple[Linear, ...] = (
        Linear("q_proj", "q", h, q),
        Linear("k_proj", "k", h, k),
        Linear("v_proj", "v", h, k),
    )
    if kind == "phi":
        dense = Linear("dense", "o", q, h)
        return (*attention, dense, Linear("fc1", "up", h, i), Linear("fc2", "down", i, h))
    attention += (Linear("o_proj", "o", q, h),)
    if kind in ("mixtral", "qwen3_moe", "gpt_oss"):
        return attention  # the experts are 3-D parameters, which no linear adapter reaches
    mlp = (
        Linear("gate_proj", "gate", h, i),
        Linear("up_proj", "up", h, i),
        Linear("down_proj", "down", i, h),
    )
    if kind == "llama4_text":
        return (*attention, *mlp, Linear("router", "router", h, shape.experts or 0))
    return (*attention, *mlp)


def targeted(shape: ModelShape, targets: str | Sequence[str]) -> tuple[Linear, ...]:
    """The linears that a recipe's `target_modules` names; the router is never adapted."""
    return _targeted(shape, targets if isinstance(targets, str) else tuple(targets))


@cache
def _targeted(shape: ModelShape, targets: str | tuple[str, ...]) -> tuple[Linear, ...]:
    every = tuple(linear for linear in linears(shape) if linear.role != "router")
    roles = {"attention": ("q", "v", "qkv"), "attention-all": ("q", "k", "v", "o", "qkv")}
    if targets == "all-linear":
        return every
    if isinstance(targets, str) and targets in roles:
        return tuple(linear for linear in every if linear.role in roles[targets])
    names = {targets} if isinstance(targets, str) else set(targets)
    return tuple(linear for linear in every if linear.name in names)


def layer_parameters(shape: ModelShape) -> int:
    """All parameters of one decoder layer, biases included where the model has them."""
    embedding = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    outside = embedding + _others_outside(shape, shape.hidden)
    return (shape.parameters - outside) // shape.layers


def other_parameters(shape: ModelShape, *, bias: bool = False) -> int:
    """Norms, biases, routers and experts: all that is neither a linear's weight nor embedding."""
    h, layers = shape.hidden, shape.layers
    return layers * _others_of_layer(shape, bias) + _others_outside(shape, h)


def _others_outside(shape: ModelShape, h: int) -> int:
    """The last norm, and what some architectures put around the embedding and the head."""
    if shape.model_type == "phi":
        return 2 * h + shape.vocabulary
    if shape.model_type == "bloom":
        return 4 * h
    return 2 * h if shape.model_type == "falcon" else h


def _others_of_layer(shape: ModelShape, bias: bool) -> int:
    h, kind = shape.hidden, shape.model_type
    q, k = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    every_bias = sum(linear.outputs for linear in linears(shape))
    if kind == "phi":
        return 2 * h + every_bias
    if kind == "bloom":
        return 4 * h + every_bias
    if kind == "falcon":
        return 2 * h + (every_bias if bias else 0)
    norms = 4 * h if kind in ("gemma2", "gemma3_text") else 2 * h
    if kind in ("qwen3", "qwen3_moe", "gemma3_text"):
        norms += 2 * shape.head_dim
    if kind == "olmo2":
        norms += q + k
    if kind == "gpt_oss":
        norms += every_bias + shape.heads
    biases = q + 2 * k if kind == "qwen2" else q + 2 * k + h if bias else 0
    return norms + biases + _experts(shape)


def _experts(shape: ModelShape) -> int:
    """The experts of one layer, and a router that is no linear."""
    count, width, h = shape.experts or 0, shape.expert_width or 0, shape.hidden
    if shape.model_type == "gpt_oss":
        return count * (3 * h * width + 2 * width + h) + count * h + count
    router = 0 if shape.model_type == "llama4_text" else count * h
    return count * 3 * h * width + router


def keeps_rows_apart(shape: ModelShape) -> bool:
    """Whether positions that start again begin a new row for its attention, so that rows can be
    packed. In transformers 5 BLOOM is given none, and GPT-OSS makes its mask without them."""
    return shape.model_type not in ("bloom", "gpt_oss")


def window(shape: ModelShape) -> int | None:
    """Beyond how many tokens most layers look back no further, and so need a mask."""
    if shape.model_type != "gemma3_text":
        return None  # Gemma 2's attention is written out and has a mask at any length
    return 512 if shape.hidden == GEMMA3_1B_HIDDEN else 1024


def packed_bits(shape: ModelShape, bits: Bits) -> Bits:
    """The bits that a base loaded in `bits` really takes: transformers quantises plain linears
    alone, and Falcon's are a class of its own."""
    return 16 if shape.model_type in OWN_LINEARS else bits


def linear_parameters(shape: ModelShape) -> int:
    """What 4-bit quantisation covers: the weights of all decoder linears."""
    return shape.layers * sum(linear.weights for linear in linears(shape))
