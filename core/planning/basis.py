"""What a plan rests on: the device a run would take, and what is free on it now."""

from __future__ import annotations

from dataclasses import replace

from core.errors import UserError
from core.hardware.machine import Machine
from core.planning.candidates import Basis
from core.planning.speed import CPU_FLOPS_PER_CORE, gpu_named, known_gpus

USUALLY_FREE = 0.97  # of a GPU's memory: the driver keeps some
USABLE_RAM = 0.85  # the rest is left to the system and the app


def with_device(machine: Machine, basis: Basis, free_bytes: int | None, gpu: str | None) -> Basis:
    """With the device that the run would take: the one asked for, else the machine's."""
    if gpu is not None:
        return _elsewhere(basis, gpu, free_bytes)
    best = machine.best_gpu()
    known = gpu_named(best.name, best.total) if best and best.name else None
    flops = known.flops if known else None
    if free_bytes is not None:
        return replace(basis, free_bytes=free_bytes, on_gpu=True, flops=flops)
    if best is None:
        free = int(machine.ram_available * USABLE_RAM)
        return replace(basis, free_bytes=free, flops=CPU_FLOPS_PER_CORE * machine.cores)
    several = sum(gpu.visible for gpu in machine.gpus) > 1
    return replace(
        basis,
        free_bytes=best.free or 0,
        on_gpu=True,
        flops=flops,
        gpu=(best.uuid or str(best.index)) if several else "auto",
    )


def _elsewhere(basis: Basis, name: str, free_bytes: int | None) -> Basis:
    """On a GPU that is not here. UserError for a name that nobody knows."""
    known = gpu_named(name)
    if known is None:
        raise UserError(
            f"No GPU called “{name}” is known.",
            f"Known are {', '.join(gpu.name for gpu in known_gpus())}; or give --vram.",
        )
    price = basis.dollars_per_hour
    if price is None and known.price:
        price = sum(known.price) / 2
    free = free_bytes if free_bytes is not None else int(known.memory * USUALLY_FREE)
    return replace(
        basis, free_bytes=free, on_gpu=True, flops=known.flops, dollars_per_hour=price, gpu="auto"
    )
