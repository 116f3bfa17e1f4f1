"""A 4-bit layer forward and backward, its numbers checked, for the doctor; runs as a child
process: `python -m core.models.four_bit [cuda|cpu]`."""

from __future__ import annotations

import sys
from typing import Any

from core.training.choices import AMPERE

WIDTH, ROWS = 256, 4
MOST_ROUNDING = 0.15
"""NF4 with blocks of 64 moves normal weights by 9 % of their spread."""
MOST_DIFFERENCE = 0.02
"""Between the layer and plain arithmetic on its unpacked weights; bf16 keeps 8 bits."""


def try_layer(device: str, kind: Any) -> str:
    """Put a layer into 4 bits there, run it both ways, and compare with plain arithmetic on the
    weights that it holds. Empty where all is well, else what is not."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    torch.manual_seed(0)
    layer = Linear4bit(WIDTH, WIDTH, bias=False, compute_dtype=kind, quant_type="nf4")
    before = torch.randn(WIDTH, WIDTH)
    layer.weight.data.copy_(before)
    layer = layer.to(device)
    packed = layer.weight
    if packed.numel() * packed.element_size() > before.numel() // 2:
        return "the weights were not packed into 4 bits"
    weights = dequantize_4bit(packed.data, packed.quant_state).float()
    if _apart(weights.cpu(), before) > MOST_ROUNDING:
        return "the weights are not what they were before they were packed"
    inputs = torch.randn(ROWS, WIDTH, device=device, dtype=kind, requires_grad=True)
    outputs = layer(inputs)
    outputs.sum().backward()
    if _apart(outputs.float(), inputs.float() @ weights.T) > MOST_DIFFERENCE:
        return "the layer computes something else than its weights say"
    if inputs.grad is None or _apart(inputs.grad.float(), weights.sum(0)) > MOST_DIFFERENCE:
        return "the gradient through a 4-bit layer is wrong"
    return ""


def _apart(one: Any, other: Any) -> float:
    """How far one is from the other, as a share of that; infinite where it is no number."""
    share = float((one - other).detach().norm() / other.detach().expand_as(one).norm())
    return share if share == share else float("inf")


def main(device: str = "cuda") -> None:
    """Print what worked, or end with what did not."""
    import torch

    on_gpu = device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} finds no CUDA device")
    # as the trainer chooses: torch says of older cards, too, that they have bf16, and emulates it
    has_bf16 = not on_gpu or torch.cuda.get_device_capability() >= AMPERE
    kind = torch.bfloat16 if has_bf16 else torch.float16
    if problem := try_layer(device, kind):
        sys.exit(problem)
    where = torch.cuda.get_device_name() if on_gpu else "the CPU"
    print(f"NF4 forward and backward work on {where}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
