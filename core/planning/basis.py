"""What a plan rests on: the device a run would take, what is free on it now, and its speed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec

from core.errors import UserError
from core.hardware.machine import Gpu, Machine
from core.memory.measured import NOTHING_SEEN, kept
from core.planning.calibration import (
    Measurement,
    calibration_for,
    cpu_device,
    device_flops,
    gpu_device,
)
from core.planning.candidates import Basis
from core.planning.gpus import GpuModel, gpu_named, known_gpus
from core.planning.known_memory import correction_of
from core.planning.prices import remembered_price
from core.planning.speed import UNKNOWN_GPU_FLOPS
from core.training.choices import AMPERE, HOPPER
from core.units import bytes_text

USABLE_RAM = 0.85  # the rest is left to the system and the app


def with_device(
    machine: Machine,
    basis: Basis,
    free_bytes: int | None,
    gpu: str | None,
    measured: Sequence[Measurement] = (),
) -> Basis:
    """With the device that the run would take: the one asked for, else the machine's.

    Its price is the one given, else the one that was last typed for it.
    """
    if gpu is not None:
        return _elsewhere(basis, gpu, free_bytes, measured)
    best, together, asked = machine.best_gpu(), _together(machine, basis.gpus), basis.gpus
    if best is None and free_bytes is None:
        free = int(machine.ram_available * USABLE_RAM)
        basis = replace(basis, gpus=1)
        device = cpu_device(machine.cpu_name, machine.cores)
        flops = device_flops(device, machine.cores, on_gpu=False)
        return _known(replace(basis, free_bytes=free, flops=flops), device, measured)
    taken = together[-1] if together else best
    device = gpu_device(taken.name, taken.total) if taken and taken.name else ""
    basis = replace(
        basis,
        free_bytes=(together[-1].free if together else 0) or 0,
        on_gpu=True,
        flops=device_flops(device, machine.cores, on_gpu=True),
        gpu=_pinned(machine) if basis.gpus == 1 else "auto",
        gpus=max(1, len(together)),
        flash=_flash(taken.capability if taken else None),
    )
    if free_bytes is not None:
        basis = replace(basis, free_bytes=free_bytes, gpu="auto", gpus=asked)
    return _known(basis, device, measured)


def _flash(capability: tuple[int, int] | None) -> bool:
    """Whether the trainer finds flash attention for a card of this generation."""
    generation = capability or (0, 0)
    if generation[0] == HOPPER[0] and find_spec("flash_attn_interface") is not None:
        return True
    return generation >= AMPERE and find_spec("flash_attn") is not None


def _together(machine: Machine, count: int) -> list[Gpu]:
    """The GPUs that the run would take: of several the fullest, which comes last, decides."""
    best = machine.best_gpu()
    if count > 1 and len(machine.cards()) > 1:
        return machine.cards()[:count]
    return [best] if best else []


def _pinned(machine: Machine) -> str:
    """The GPU by its name where there are several, lest the run take another."""
    best = machine.best_gpu()
    if best is None or len(machine.devices()) < 2:
        return "auto"
    return best.uuid or str(best.index)


def _known(basis: Basis, device: str, measured: Sequence[Measurement]) -> Basis:
    """With what was measured on the device and what was typed for it."""
    calibration = calibration_for(device, measured)
    price = basis.dollars_per_hour
    return replace(
        basis,
        device=device,
        calibration=calibration,
        memory=correction_of(device, kept()) if basis.on_gpu else NOTHING_SEEN,
        flops=basis.flops or (UNKNOWN_GPU_FLOPS if calibration.points else None),
        dollars_per_hour=remembered_price(device) if price is None else price,
    )


def on_gpu_model(basis: Basis, known: GpuModel, measured: Sequence[Measurement]) -> Basis:
    """On an idle card of this kind, at the price that was typed for it, if any."""
    there = replace(
        basis,
        free_bytes=known.usually_free,
        on_gpu=True,
        flops=known.flops,
        dollars_per_hour=None,
        gpu="auto",
        flash=known.bf16 and _flash(AMPERE),  # what is installed here would be there
        elsewhere=True,
    )
    return _known(there, known.name, measured)


def _elsewhere(
    basis: Basis, name: str, free_bytes: int | None, measured: Sequence[Measurement]
) -> Basis:
    """On a GPU that is not here. UserError for a name that nobody knows."""
    known = gpu_named(name)
    if known is None:
        raise UserError(
            f"No GPU called “{name}” is known.",
            f"Known are {', '.join(gpu.name for gpu in known_gpus())}; or give --vram.",
        )
    there = on_gpu_model(basis, known, measured)
    price = there.dollars_per_hour if basis.dollars_per_hour is None else basis.dollars_per_hour
    if price is None and known.price:
        price = sum(known.price) / 2 * basis.gpus  # of one, as they are rented
    if free_bytes is not None and free_bytes > known.memory:
        raise UserError(
            f"{known.name} has {bytes_text(known.memory)}, less than the "
            f"{bytes_text(free_bytes)} asked for.",
            "Give less memory, or another GPU.",
        )
    free = there.free_bytes if free_bytes is None else free_bytes
    return replace(there, free_bytes=free, dollars_per_hour=price)
