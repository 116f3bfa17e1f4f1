"""Peak memory by simulation: the real forward and backward pass on tensors without data.

Everything here but `allocator` imports torch, so it runs in a child process only; the app's side
is `core.memory.simulated`.
"""
