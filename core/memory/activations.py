"""Bytes per token that one decoder layer keeps for its backward pass, and needs while in it.

Derived from the saved tensors of each operation as transformers writes them: a norm keeps its
input in float32, an adapted linear its input, the gated MLP its three products, attention the
rotated heads and its output. Tensors are 16-bit where nothing else is said. A test counts what
autograd really keeps, for every architecture of the presets and every method.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from core.models.catalogue import ModelShape
from core.models.families import FUSED, Linear, targeted

WRITTEN_OUT_ATTENTION = {"bloom": 6.0, "falcon": 4.0, "gemma2": 8.0, "gpt_oss": 2.0}
"""Bytes per head and pair of tokens, where no fused attention is used: probabilities are kept."""
OUTPUT_COPIED = FUSED | {"bloom", "gemma2", "gpt_oss"}
"""Where attention's output is laid out anew, so that the next linear keeps its own input."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """Per token: `saved` for the backward pass, `workspace` for the moment of it.

    `squared` is per token and token of context, where attention keeps its probabilities.
    """

    saved: float
    workspace: float
    squared: float = 0.0


@cache
def layer_cost(
    shape: ModelShape,
    method: str,
    rank: int,
    targets: tuple[Linear, ...],
    dropout: bool = False,
) -> LayerCost:
    """What one layer costs per token under `method`; `dropout` is that of the adapters."""
    roles = {linear.role for linear in targets}
    adapted = roles if method != "full" else _every_role(shape)
    each = 4 if method == "lora" else 2  # adapters are float32 on a 16-bit base
    saved = (
        _norms(shape, trained=method == "full")
        + _attention(shape)
        + _mlp(shape, trained=method == "full")
        + _inputs(shape, method, adapted, dropout=dropout and method != "full")
        + (each * rank * len(targets) if method != "full" else 0)
    )
    squared = WRITTEN_OUT_ATTENTION.get(shape.model_type, 0.0) * shape.heads
    return LayerCost(saved, _workspace(shape, method), squared)


def _every_role(shape: ModelShape) -> set[str]:
    return {linear.role for linear in targeted(shape, "all-linear")}


def _widths(shape: ModelShape) -> tuple[int, int]:
    """The widths of all query heads and of all key heads."""
    return shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim


def _norms(shape: ModelShape, *, trained: bool) -> float:
    """RMS norms keep a float32 copy of their input and its mean; a trained one also what it
    scales, which Gemma and OLMo scale in float32."""
    h, kind = shape.hidden, shape.model_type
    q, k = _widths(shape)
    if kind in ("phi", "falcon"):
        return 2 * h + 4  # one fused layer norm keeps its 16-bit input
    if kind == "bloom":
        return 4 * h + 8
    wide = kind in ("gemma2", "gemma3_text", "olmo2")
    each = 4 + ((4 if wide else 2) if trained else 0)
    count = 4 if kind in ("gemma2", "gemma3_text") else 2
    norms = count * (each * h + 4)
    if kind in ("qwen3", "qwen3_moe", "gemma3_text"):
        return norms + each * (q + k) + 4 * (shape.heads + shape.kv_heads)
    if kind == "olmo2":
        return norms + each * (q + k) + 8
    return norms + (4 * (2 * q + k) if kind == "llama4_text" else 0)


def _attention(shape: ModelShape) -> float:
    """Rotated q and k, v, the output and the softmax's sums (flash-style)."""
    q, k = _widths(shape)
    if shape.model_type == "bloom":
        return 2 * (q + 2 * k)  # one tensor of all three, read in place
    if shape.model_type == "falcon":
        return 12 * q  # the one key head is repeated for every query head
    if shape.model_type in ("gemma2", "gpt_oss"):
        return 6 * q + 8 * shape.heads
    fused = 2 * (q + k) if shape.model_type in FUSED else 0  # v is a view that keeps all of qkv
    return 4 * q + 4 * k + 4 * shape.heads + fused


def _mlp(shape: ModelShape, *, trained: bool) -> float:
    """What the MLP keeps beside the inputs of its linears."""
    kind, width = shape.model_type, shape.intermediate
    if shape.experts:
        return _experts(shape, trained=trained) + (6 * width if kind == "llama4_text" else 0)
    if kind == "phi":
        return 8 * width  # a GELU written out in Python keeps four intermediates
    return 2 * width if kind in ("falcon", "bloom") else 6 * width


def _experts(shape: ModelShape, *, trained: bool) -> float:
    """The chosen experts' products and weighted outputs; Llama 4 runs every token through all."""
    h, width = shape.hidden, shape.expert_width or shape.intermediate
    count = shape.experts or 0
    if shape.model_type == "llama4_text":
        return count * (8 * width + 2 * h if trained else 6 * width) + 5 * h
    active = shape.active_experts or 1
    each = 8 * width + 4 * h if trained else 6 * width + 2 * h
    if shape.model_type == "gpt_oss":
        each += 6 * width + (2 * h if trained else 0)  # its gate is clamped and written out
    return active * each + (2 * h if trained else 0) + 8 * count + 64


def _inputs(shape: ModelShape, method: str, adapted: set[str], *, dropout: bool) -> float:
    """The inputs that trained linears keep: one each where the adapters are float32 or have
    dropout (with its mask), else one for those that share it."""
    h, width = shape.hidden, shape.intermediate
    q, _ = _widths(shape)
    own = method == "lora" or dropout
    size = (4 if method == "lora" else 2) + (1 if dropout else 0)
    kept = 0
    for group in (("q", "k", "v", "qkv"), ("gate", "up", "gate_up")):
        count = sum(role in adapted for role in group)
        kept += size * h * count if own else 2 * h * min(count, 1)
    if "o" in adapted:
        kept += size * q if own else 2 * q if shape.model_type in OUTPUT_COPIED else 0
    if "down" in adapted:
        kept += size * width
    return kept


def _workspace(shape: ModelShape, method: str) -> float:
    h = shape.hidden
    width = shape.intermediate
    if shape.experts:
        width = (shape.expert_width or width) * (shape.active_experts or 1)
        width += shape.intermediate if shape.model_type == "llama4_text" else 0
    if method == "lora":
        return 10 * h + (10 if shape.model_type in FUSED else 6) * width
    if method == "full":
        return 2.5 * h + 4 * width
    after = 10 * h if shape.model_type in ("gemma2", "gemma3_text") else 0  # norms behind as well
    return 2.75 * h + 4 * width + after
