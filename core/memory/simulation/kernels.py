"""What CUDA's kernels hold while they run, for operations that the meta device does otherwise.

Read in the sources of torch (aten/native/transformers/cuda), bitsandbytes (backends/cuda) and
TRL (kernels/chunked_logprob): each stand-in allocates the same buffers at the same moments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

FLASH_HEAD_DIM = 256
FUSED_4BIT_ROWS = 1536  # up to which bitsandbytes may multiply without unpacking the weight
BLOCK = 64  # NF4's block size


class FlashAttention(torch.autograd.Function):  # type: ignore[misc]
    """`_scaled_dot_product_flash_attention`: the output and one float32 sum a head and token.

    Its backward accumulates dQ in float32, and dK and dV for every query head before they are
    summed over the heads that share a key.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, dropout: float) -> Tensor:
        rows, heads, length, _ = query.shape
        out = query.new_empty(rows, length, heads, value.shape[-1]).transpose(1, 2)
        sums = query.new_empty(rows, heads, length, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, _, _ = ctx.saved_tensors
        rows, heads, length, width = query.shape
        gradient = _ends_dense(grads[0])
        in_blocks = -(-length // 128) * 128
        sums = query.new_empty(rows, heads, in_blocks, dtype=torch.float32)
        wide = -(-width // 32) * 32
        accumulated = query.new_empty(rows, in_blocks, heads, wide, dtype=torch.float32)
        found = [torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)]
        expanded = None
        if key.shape[1] != heads:
            expanded = [query.new_empty(rows, length, heads, width) for _ in range(2)]
        del gradient, sums, accumulated, expanded
        return (*found, None)


class EfficientAttention(torch.autograd.Function):  # type: ignore[misc]
    """`_scaled_dot_product_efficient_attention`: takes a mask, which it keeps, as numbers."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        rows, heads, length, _ = query.shape
        out = query.new_empty(rows, length, heads, value.shape[-1]).transpose(1, 2)
        in_blocks = -(-length // 32) * 32
        sums = query.new_empty(rows, heads, in_blocks, dtype=torch.float32)
        kept = (mask,) if mask is not None else ()
        ctx.save_for_backward(query, key, value, out, sums, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *_ = ctx.saved_tensors
        rows, heads, length, width = query.shape
        found = [torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)]
        delta = query.new_empty(rows, heads, length, dtype=torch.float32)
        accumulated = query.new_empty(rows, heads, length, width, dtype=torch.float32)
        del delta, accumulated
        return (*found, None)


def _ends_dense(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


_composite_attention = nn.functional.scaled_dot_product_attention


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`scaled_dot_product_attention` with the choice of kernel that CUDA makes."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    alike = query.shape[1] == key.shape[1]  # one key head for all is broadcast by no fused kernel
    fits_flash = half and query.shape[-1] <= FLASH_HEAD_DIM and (alike or enable_gqa)
    if attn_mask is None and fits_flash:
        return _attend(FlashAttention, query, key, value, dropout_p)
    if alike:
        return _attend(EfficientAttention, query, key, value, _as_numbers(attn_mask, query))
    return _composite_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )


def _attend(kernel: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    result: Tensor = kernel.apply(*arguments)
    return result


def _as_numbers(mask: Tensor | None, query: Tensor) -> Tensor | None:
    """A mask of booleans becomes one of 0 and −∞ in the type of the heads."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask.logical_not(), -torch.inf)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """CUDA's fused dropout keeps a mask of one byte an element."""
    if not training or p == 0.0:
        return input
    result: Tensor = torch.ops.aten.native_dropout.default(input, p, True)[0]
    return result


def packed_matmul(
    inputs: Tensor, weight: Tensor, shape: Any, *scales_and_codes: Any, **rest: Any
) -> Tensor:
    """bitsandbytes' 4-bit product: for more than a few rows the whole weight is unpacked."""
    outputs, width = int(shape[0]), int(shape[1])
    if inputs.numel() // width > FUSED_4BIT_ROWS:
        unpacked = inputs.new_empty(outputs, width)
        scales = inputs.new_empty(outputs * width // BLOCK, dtype=torch.float32)
        del scales
        result = inputs.new_empty(*inputs.shape[:-1], outputs)
        del unpacked
        return result
    return inputs.new_empty(*inputs.shape[:-1], outputs)


def quantised_rows(inputs: Tensor, threshold: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """LLM.int8's inputs in 8 bits. How many columns hold outliers depends on the data: none."""
    scales = inputs.new_empty(inputs.shape[0], dtype=torch.float32)
    packed = torch.empty_like(inputs, dtype=torch.int8)
    found = inputs.abs() >= threshold
    del found
    return packed, scales, inputs.new_empty(0, dtype=torch.int64)


def mixed_matmul(
    inputs: Tensor, packed: Tensor, weight: Tensor, *scales: Any, **rest: Any
) -> tuple[Tensor, Tensor]:
    """LLM.int8's product: whole numbers, then float16, then the type of the inputs."""
    whole = inputs.new_empty(*packed.shape[:-1], weight.shape[0], dtype=torch.int32)
    half = inputs.new_empty(*packed.shape[:-1], weight.shape[0], dtype=torch.float16)
    result = half.to(inputs.dtype)
    del whole
    return result, inputs.new_empty(0)


class Answers:
    """Stand-ins for operations whose result depends on data: all rows are full, and the first
    `labelled` tokens have labels (None: all)."""

    def __init__(self) -> None:
        self.labelled: int | None = None

    def item(self, tensor: Tensor) -> bool | float:
        if tensor.dtype == torch.bool:
            return True
        return 1.0 if tensor.is_floating_point() else 1

    def nonzero(self, mask: Tensor) -> Tensor:
        return mask.new_empty(self._chosen(mask), mask.dim(), dtype=torch.int64)

    def index(self, tensor: Tensor, indices: list[Tensor | None]) -> Tensor:
        first = indices[0]
        if first is not None and first.dtype == torch.bool:
            return tensor.new_empty(self._chosen(first), *tensor.shape[first.dim() :])
        result: Tensor = torch.ops.aten.index.Tensor(tensor, indices)
        return result

    def index_put(self, tensor: Tensor, indices: Any, values: Tensor, add: bool = False) -> Tensor:
        """Only the engine calls it, for a selection's gradient, on fresh zeros: in place."""
        return tensor

    def replacements(self) -> dict[Any, Any]:
        """For the recorder: what to do instead of an operation."""
        aten = torch.ops.aten
        return {
            aten._local_scalar_dense.default: self.item,
            aten.nonzero.default: self.nonzero,
            aten.index.Tensor: self.index,
            aten.index_put.default: self.index_put,
            torch.ops._c10d_functional.wait_tensor.default: same,
            torch.ops._c10d_functional._wrap_tensor_autograd.default: same,
        }

    def _chosen(self, mask: Tensor) -> int:
        count: int = mask.numel()
        return count if self.labelled is None else min(count, self.labelled)


def composites() -> dict[Any, Any]:
    """The same, for operations with buffers of their own that must be seen."""
    import bitsandbytes  # noqa: F401 - registers its operations

    operations = torch.ops.bitsandbytes
    return {
        operations.gemm_4bit.default: packed_matmul,
        operations.int8_vectorwise_quant.default: quantised_rows,
        operations.int8_mixed_scaled_mm.default: mixed_matmul,
    }


def same(gathered: Tensor) -> Tensor:
    """Waiting for what others send gives that, and no copy as on the meta device."""
    return gathered.view(gathered.shape)


class _NoKernel:
    """A Triton kernel that is launched and does nothing: its buffers are the caller's."""

    def __getitem__(self, grid: Any) -> Any:
        return lambda *arguments, **options: None


@contextmanager
def as_on_cuda() -> Iterator[None]:
    """Calls that would take a CPU's way take CUDA's."""
    from trl.kernels import chunked_logprob
    from trl.trainer import utils

    functional = nn.functional
    with ExitStack() as stack:
        for owner, name, stand_in in (
            (functional, "scaled_dot_product_attention", attention),
            (functional, "dropout", dropout),
            (torch, "is_autocast_enabled", lambda *device: False),
            (torch, "autocast", lambda *arguments, **options: nullcontext()),
            (chunked_logprob, "_use_triton", lambda device: True),
            (utils, "_use_triton", lambda device: True),
            (chunked_logprob, "_forward_kernel", _NoKernel()),
            (chunked_logprob, "_backward_kernel", _NoKernel()),
            (chunked_logprob, "_addmm_fp32", lambda total, a, b: None),
        ):
            stack.enter_context(patch.object(owner, name, stand_in))
        stack.enter_context(patch.object(chunked_logprob, "triton", _Triton, create=True))
        yield


class _Triton:
    @staticmethod
    def cdiv(a: int, b: int) -> int:
        return -(-a // b)
