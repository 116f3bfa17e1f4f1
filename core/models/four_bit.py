"""A 4-bit layer forward and backward on the GPU, for the doctor; runs as a child process."""

from __future__ import annotations

import sys


def main() -> None:
    """Print what worked, or end with the library's own error."""
    import torch
    from bitsandbytes.nn import Linear4bit

    kind = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    layer = Linear4bit(256, 256, bias=False, compute_dtype=kind, quant_type="nf4").cuda()
    inputs = torch.randn(4, 256, device="cuda", dtype=kind, requires_grad=True)
    layer(inputs).sum().backward()
    if inputs.grad is None or not bool(torch.isfinite(inputs.grad).all()):
        sys.exit("the gradient through a 4-bit layer is not finite")
    print(f"NF4 forward and backward work on {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    main()
