"""How many parameters a method trains, to the unit as peft counts them, and what they weigh."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from core.methods import METHODS, Bits, MethodName
from core.models.catalogue import ModelShape
from core.models.families import Linear, layer_parameters, linears, targeted

OFT_BLOCK = 32
IN_16_BITS = ("lora", "qlora", "lora-8bit", "rslora", "dora", "lora+")


@cache
def adapted_linears(
    shape: ModelShape, method: MethodName, targets: str | tuple[str, ...]
) -> tuple[Linear, ...]:
    """The linears of a layer that the method trains something beside; all where weights learn."""
    kind = METHODS[method].kind
    if kind == "soft-prompt":
        return ()
    if kind == "weights":
        return linears(shape)
    if method == "ia3":
        scaled = ("k", "v", "qkv", "down")
        return tuple(linear for linear in linears(shape) if linear.role in scaled)
    return targeted(shape, targets)


def trainable(
    shape: ModelShape,
    method: MethodName,
    rank: int = 16,
    adapted: Sequence[Linear] = (),
    *,
    layers: int = 2,
    virtual_tokens: int = 20,
) -> int:
    """How many parameters are trained. `adapted`: see `adapted_linears`."""
    if method == "full":
        return shape.parameters
    if method == "last-layers":
        return min(layers, shape.layers) * layer_parameters(shape)
    if METHODS[method].kind == "soft-prompt":
        return _soft_prompt(shape, method, virtual_tokens)
    return shape.layers * sum(_beside(linear, method, rank) for linear in adapted)


def _beside(linear: Linear, method: MethodName, rank: int) -> int:
    i, o = linear.inputs, linear.outputs
    if method == "vera":
        return rank + o
    if method == "adalora":
        first = rank + rank // 2
        return first * (i + o + 1)
    if method == "ia3":
        return i if linear.role == "down" else o
    if method == "oft":
        block = oft_block(i)
        return i // block * (block * (block - 1) // 2)
    if method == "loha":
        return 2 * rank * (i + o)
    if method == "lokr":
        return _kronecker(i, o, rank)
    return rank * (i + o) + (o if method == "dora" else 0)


def oft_block(width: int) -> int:
    """peft takes the divisor of the width that is nearest to the block asked for."""
    if width % OFT_BLOCK == 0:
        return OFT_BLOCK
    higher = next(size for size in range(OFT_BLOCK, width + 1) if width % size == 0)
    lower = next(size for size in range(OFT_BLOCK, 0, -1) if width % size == 0)
    return lower if OFT_BLOCK - lower <= higher - OFT_BLOCK else higher


def _kronecker(i: int, o: int, rank: int) -> int:
    """LoKr: the smaller factor whole, the larger one in low rank where that is smaller."""
    (out_small, out_large), (in_small, in_large) = _factors(o), _factors(i)
    whole = rank >= max(out_large, in_large) / 2
    large = out_large * in_large if whole else rank * (out_large + in_large)
    return out_small * in_small + large


def _factors(width: int) -> tuple[int, int]:
    """Two factors as near to the square root as there are."""
    small = next(size for size in range(int(width**0.5), 0, -1) if width % size == 0)
    return small, width // small


def _soft_prompt(shape: ModelShape, method: MethodName, virtual_tokens: int) -> int:
    if method == "prefix":
        one_head_for_all = shape.model_type == "falcon"  # which peft does not notice
        heads = shape.heads if one_head_for_all else shape.kv_heads
        return virtual_tokens * shape.layers * 2 * heads * shape.head_dim
    network = 3 * (shape.hidden**2 + shape.hidden) if method == "p-tuning" else 0
    return virtual_tokens * shape.hidden + network


def trained_bytes(method: MethodName, bits: Bits) -> int:
    """Bytes a trained parameter: adapters are float32, but for LoRA's on a packed base."""
    if not METHODS[method].has_adapter:
        return 2
    return 2 if bits < 16 and method in IN_16_BITS else 4


def frozen_beside(
    shape: ModelShape, method: MethodName, rank: int, adapted: Sequence[Linear]
) -> int:
    """Bytes that a method holds beside the base and does not train."""
    if method == "vera" and adapted:
        widest_in = max(linear.inputs for linear in adapted)
        widest_out = max(linear.outputs for linear in adapted)
        return 4 * rank * (widest_in + widest_out)
    if method == "oft":
        pairs = (oft_block(linear.inputs) for linear in adapted)
        return shape.layers * sum(2 * 8 * (b * (b - 1) // 2) for b in pairs)
    return 0
