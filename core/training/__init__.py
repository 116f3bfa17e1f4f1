"""The worker: imports torch, runs only in child processes."""
