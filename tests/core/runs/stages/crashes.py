"""A stage that dies as training does when the GPU is too small."""

import sys

print("Traceback (most recent call last):\n  File train.py, line 1", file=sys.stderr)
print("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", file=sys.stderr)
sys.exit(1)
