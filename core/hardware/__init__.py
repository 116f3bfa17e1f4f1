"""The machine as it is right now: GPUs through NVML, RAM, disk."""
