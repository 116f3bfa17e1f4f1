"""All that is read of a GPU in words, for the doctor and the app. What cannot be read is N/A."""

from __future__ import annotations

from collections.abc import Sequence

from core.hardware.machine import Gpu, GpuProcess, Machine
from core.units import bytes_text

NA = "N/A"
Fact = tuple[str, str]


def gpu_facts(gpu: Gpu) -> list[Fact]:
    """What there is to know of a card but its processes, each under its name."""
    return [
        ("memory", memory_text(gpu)),
        ("reserved", _bytes(gpu.reserved)),
        ("utilisation", _with_unit(gpu.utilisation, "%")),
        ("temperature", _with_unit(gpu.temperature, "°C")),
        ("power", power_text(gpu)),
        ("clocks", f"{_with_unit(gpu.clock, 'MHz')}, memory {_with_unit(gpu.memory_clock, 'MHz')}"),
        ("slowed by", slowed_text(gpu)),
        ("PCIe", gpu.pcie or NA),
        ("capability", capability_text(gpu)),
        ("UUID", gpu.uuid or NA),
    ]


def host_facts(machine: Machine) -> list[Fact]:
    """The driver, processor, memory, and the disks of runs and of downloaded models."""
    cores = f"{machine.cores} core{'s' if machine.cores != 1 else ''}"
    ram = f"{bytes_text(machine.ram_available)} free of {bytes_text(machine.ram_total)}"
    return [
        ("driver", f"{machine.driver or NA}, CUDA {machine.cuda or NA}"),
        ("CPU", f"{machine.cpu_name}, {cores}, {_with_unit(machine.cpu_percent, '%')} busy"),
        ("RAM", ram),
        ("runs' disk", f"{_bytes(machine.disk_free)} free of {_bytes(machine.disk_total)}"),
        ("models' disk", f"{_bytes(machine.cache_free)} free of {_bytes(machine.cache_total)}"),
    ]


def memory_text(gpu: Gpu) -> str:
    """Free of total, and used."""
    return f"{_bytes(gpu.free)} free of {_bytes(gpu.total)}, {_bytes(gpu.used)} used"


def power_text(gpu: Gpu) -> str:
    """Watts, and the limit."""
    power, limit = (
        NA if value is None else f"{value:.0f}" for value in (gpu.power, gpu.power_limit)
    )
    return f"{power} of {limit} W"


def slowed_text(gpu: Gpu) -> str:
    """Why the clocks are lower than they could be."""
    if gpu.throttled is None:
        return NA
    return ", ".join(gpu.throttled) or "nothing"


def capability_text(gpu: Gpu) -> str:
    """CUDA's name for the generation."""
    return NA if gpu.capability is None else "{}.{}".format(*gpu.capability)


def process_text(process: GpuProcess) -> str:
    """Who it is, and what it holds."""
    name = process.name or "in another container"
    whose = ", TuneDeck's" if process.ours else ""
    return f"{process.pid} {name}{whose}: {_bytes(process.memory)}"


def slowed_seriously(gpu: Gpu) -> list[str]:
    """The reasons for lower clocks that something can be done about; a power limit is set by the
    card's owner."""
    return [reason for reason in gpu.throttled or () if reason != "power limit"]


def others_text(processes: Sequence[GpuProcess]) -> str:
    """What processes hold that are not ours; empty where there are none."""
    others = [process for process in processes if not process.ours]
    if not others:
        return ""
    held = sum(process.memory or 0 for process in others)
    count = f"{len(others)} other process{'es' if len(others) > 1 else ''}"
    known = all(process.memory is not None for process in others)
    return f"{count} hold{'' if len(others) > 1 else 's'} {bytes_text(held) if known else NA}"


def _bytes(value: int | None) -> str:
    return NA if value is None else bytes_text(value)


def _with_unit(value: float | None, unit: str) -> str:
    return NA if value is None else f"{value:,.0f} {unit}"
