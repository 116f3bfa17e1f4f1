"""One NVIDIA GPU as NVML sees it: each query guarded on its own, each value kept only where it can
be believed. Nothing here raises."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

from core.hardware.machine import Gpu, GpuProcess

ROOT = Path(__file__).parents[2]
MOST_MEMORY = 1 << 45  # 32 TiB: more is a garbled reading
MOST_WATTS = 10_000.0
MOST_SLICES = 16
THROTTLE_REASONS = (
    (0x4, "power limit"),
    (0x8, "hardware slowdown"),
    (0x20, "temperature"),
    (0x40, "hardware temperature"),
    (0x80, "power brake"),
)
"""Reasons for lower clocks that cost speed; being idle or a setting of the owner is none."""


def attempt(nvml: Any, query: str, *arguments: Any) -> tuple[Any, str]:
    """(value, "") or (None, what went wrong); a query that the binding lacks has gone wrong too."""
    try:
        return getattr(nvml, query)(*arguments), ""
    except Exception as error:  # noqa: BLE001  old drivers lack functions, broken ones garble
        return None, str(error) or type(error).__name__


def ask(nvml: Any, query: str, *arguments: Any) -> Any:
    """The value, or None."""
    return attempt(nvml, query, *arguments)[0]


def _either(nvml: Any, newer: str, older: str, *arguments: Any) -> Any:
    """By the newer of two names where the driver has it."""
    value = ask(nvml, newer, *arguments)
    return ask(nvml, older, *arguments) if value is None else value


def text(value: Any) -> str | None:
    """A name, with what is no UTF-8 replaced; None for nothing."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip() or None if isinstance(value, str) else None


def number(value: Any, most: float, scale: float = 1.0, least: float = 0.0) -> float | None:
    """A number in its believable range, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    scaled = value * scale
    return scaled if least <= scaled <= most else None


def whole(value: Any, most: float) -> int | None:
    """A whole number in its believable range, else None."""
    found = number(value, most)
    return None if found is None else int(found)


def read_gpu(nvml: Any, index: int) -> tuple[Gpu, bool]:
    """One GPU, and whether it is lost to this instance of the library."""
    handle, problem = attempt(nvml, "nvmlDeviceGetHandleByIndex", index)
    if handle is None:
        return Gpu(index=index), "lost" in problem.lower()
    mig = _mig(ask(nvml, "nvmlDeviceGetMigMode", handle))
    capability = _capability(ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle))
    gpu = Gpu(
        index=index,
        **_of_card_or_slice(nvml, handle),
        utilisation=_utilisation(ask(nvml, "nvmlDeviceGetUtilizationRates", handle)),
        temperature=whole(
            _either(nvml, "nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature", handle, 0), 200
        ),
        power=_watts(ask(nvml, "nvmlDeviceGetPowerUsage", handle)),
        power_limit=_watts(ask(nvml, "nvmlDeviceGetEnforcedPowerLimit", handle)),
        capability=capability,
        clock=whole(ask(nvml, "nvmlDeviceGetClockInfo", handle, 1), 20_000),
        memory_clock=whole(ask(nvml, "nvmlDeviceGetClockInfo", handle, 2), 50_000),
        throttled=_throttled(
            _either(
                nvml,
                "nvmlDeviceGetCurrentClocksEventReasons",
                "nvmlDeviceGetCurrentClocksThrottleReasons",
                handle,
            )
        ),
        pcie=_pcie(nvml, handle),
        mig=mig,
        slices=_slices(nvml, handle, index, capability) if mig else (),
    )
    return gpu, False


def _slices(
    nvml: Any, card: Any, index: int, capability: tuple[int, int] | None
) -> tuple[Gpu, ...]:
    """The MIG slices of a card. They have no clocks, temperature or power of their own."""
    most = whole(ask(nvml, "nvmlDeviceGetMaxMigDeviceCount", card), MOST_SLICES) or 0
    handles = (ask(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", card, at) for at in range(most))
    return tuple(
        Gpu(index=index, capability=capability, **_of_card_or_slice(nvml, handle))
        for handle in handles
        if handle is not None
    )


def _of_card_or_slice(nvml: Any, handle: Any) -> dict[str, Any]:
    """What a card and a slice of one both tell."""
    total, used, free, reserved = _memory(nvml, handle)
    return {
        "uuid": text(ask(nvml, "nvmlDeviceGetUUID", handle)),
        "name": text(ask(nvml, "nvmlDeviceGetName", handle)),
        "total": total,
        "used": used,
        "free": free,
        "reserved": reserved,
        "processes": _processes(nvml, handle),
    }


def _utilisation(rates: Any) -> int | None:
    return whole(getattr(rates, "gpu", None), 100)


def _watts(milliwatts: Any) -> float | None:
    return number(milliwatts, MOST_WATTS, 1e-3)


def _memory(nvml: Any, handle: Any) -> tuple[int | None, int | None, int | None, int | None]:
    """(total, used, free, reserved); a reading that contradicts itself counts as none."""
    newer = getattr(nvml, "nvmlMemory_v2", None)
    info = ask(nvml, "nvmlDeviceGetMemoryInfo", handle, newer) if newer is not None else None
    info = info or ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    total = whole(getattr(info, "total", None), MOST_MEMORY)
    if not total:
        return None, None, None, None
    used = whole(getattr(info, "used", None), total)
    free = whole(getattr(info, "free", None), total)
    if used is None or free is None or used + free > total:
        used = free = None  # where one is wrong, the other cannot be trusted
    return total, used, free, whole(getattr(info, "reserved", None), total)


def _capability(value: Any) -> tuple[int, int] | None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return None
    major, minor = (whole(part, 99) for part in value)
    return None if major is None or minor is None or major == 0 else (major, minor)


def _throttled(bits: Any) -> tuple[str, ...] | None:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 0 <= bits < 1 << 32:
        return None
    return tuple(reason for bit, reason in THROTTLE_REASONS if bits & bit)


def _pcie(nvml: Any, handle: Any) -> str | None:
    generation = whole(ask(nvml, "nvmlDeviceGetCurrPcieLinkGeneration", handle), 12)
    width = whole(ask(nvml, "nvmlDeviceGetCurrPcieLinkWidth", handle), 64)
    return f"{generation}.0 x{width}" if generation and width else None


def _mig(modes: Any) -> bool:
    return isinstance(modes, tuple | list) and bool(modes) and modes[0] == 1


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    """Whoever computes or draws on it, as far as the driver tells."""
    found: dict[int, GpuProcess] = {}
    queries = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses")
    for process in (one for query in queries for one in ask(nvml, query, handle) or ()):
        pid = whole(getattr(process, "pid", None), 1 << 32)
        if pid is not None:
            memory = whole(getattr(process, "usedGpuMemory", None), MOST_MEMORY)
            name, ours = _identity(pid)
            found[pid] = GpuProcess(pid, memory, name, ours)
    return tuple(found.values())


def _identity(pid: int) -> tuple[str | None, bool]:
    """(name, whether it is this program or a run of this user's); neither can be told of a process
    in another namespace."""
    import psutil

    try:
        process = psutil.Process(pid)
        name = process.name()
        ours = pid == os.getpid() or (_is_child(process.cmdline()) and _is_mine(process))
    except (psutil.Error, OSError, ValueError, OverflowError):
        return None, False
    return name, ours


def _is_child(words: list[str]) -> bool:
    """Whether it runs one of our modules: `python -P -m core.…`, or `-u` where torchrun starts
    it. Others have packages of that name."""
    module = next((name for flag, name in pairwise(words[1:5]) if flag == "-m"), "")
    return module.startswith("core.") and (ROOT / f"{module.replace('.', '/')}.py").is_file()


def _is_mine(process: Any) -> bool:
    """Whether it runs under this user: on a shared machine others train, too."""
    return bool(process.uids().real == os.getuid())
