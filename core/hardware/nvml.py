"""NVIDIA GPUs as NVML sees them. Each query is guarded on its own; nothing here raises."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.hardware.machine import Gpu, GpuProcess
from core.hardware.visible import visible_indices

RETRY_SECONDS = 30.0
"""How long a failed start of NVML stands before it is tried again."""

MOST_MEMORY = 1 << 45  # 32 TiB: more is a garbled reading
MOST_WATTS = 10_000.0
THROTTLE_REASONS = (
    (0x4, "power limit"),
    (0x8, "hardware slowdown"),
    (0x20, "temperature"),
    (0x40, "hardware temperature"),
    (0x80, "power brake"),
)
NO_GPU = "no NVIDIA GPU"


class Nvml:
    """The library, started when first needed and started again after it was lost."""

    def __init__(self) -> None:
        self._library: Any = None
        self._note = ""
        self._failed_at: float | None = None
        self._started_at = 0.0

    def read(self) -> tuple[tuple[Gpu, ...], str, str | None, str | None]:
        """(GPUs, note, driver version, CUDA version). The note is empty where all is well."""
        library = self._started()
        if library is None:
            return (), self._note, None, None
        count, problem = _try(library.nvmlDeviceGetCount)
        if count is None:
            self._lose(problem)
            return (), self._note, None, None
        driver = _text(_ask(library.nvmlSystemGetDriverVersion))
        found = [_read_gpu(library, index) for index in range(min(int(count), 64))]
        if any(lost for _, lost in found) and self._age() > RETRY_SECONDS:
            self._stop()  # a fresh start may find it again; the others lose no reading
        gpus = _with_visibility([gpu for gpu, _ in found])
        return gpus, _note_for(gpus), driver, _cuda_version(library)

    def _started(self) -> Any:
        if self._library is not None:
            return self._library
        now = time.monotonic()
        if self._failed_at is not None and now - self._failed_at < RETRY_SECONDS:
            return None
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception as error:  # noqa: BLE001  a driver library may fail in any way
            self._failed_at, self._note = now, why_no_gpu(error)
            return None
        self._library, self._failed_at, self._note = pynvml, None, ""
        self._started_at = now
        return pynvml

    def _age(self) -> float:
        return time.monotonic() - self._started_at

    def _lose(self, problem: str) -> None:
        """The driver has gone as a whole: wait before it is asked again."""
        self._stop()
        self._failed_at = time.monotonic()
        self._note = f"the NVIDIA driver does not answer ({problem})"

    def _stop(self) -> None:
        _ask(self._library.nvmlShutdown)
        self._library = None


def why_no_gpu(error: Exception) -> str:
    """In words why NVML did not start: no GPU, a driver problem, AMD or Apple."""
    if platform.system() == "Darwin":
        arm = platform.machine() == "arm64"
        return "Apple GPU: training here runs on the CPU" if arm else NO_GPU
    name = type(error).__name__
    if name in ("NVMLError_LibraryNotFound", "ModuleNotFoundError"):
        if _pci_vendor_present("0x10de"):
            return "an NVIDIA GPU is there, but its driver is not installed"
        if Path("/dev/kfd").exists() or _pci_vendor_present("0x1002"):
            return "AMD GPU: only NVIDIA GPUs are supported, training here runs on the CPU"
        return NO_GPU
    if name == "NVMLError_DriverNotLoaded":
        return "the NVIDIA driver is installed but not loaded"
    if name == "NVMLError_LibRmVersionMismatch":
        return "the NVIDIA driver was updated while running: restart the machine"
    if name == "NVMLError_NoPermission":
        return "no permission to talk to the NVIDIA driver"
    return f"the NVIDIA driver does not answer ({error})"


def _pci_vendor_present(vendor: str) -> bool:
    """Whether a display controller of this vendor is on the PCI bus."""
    try:
        for device in Path("/sys/bus/pci/devices").iterdir():
            if (device / "class").read_text().startswith("0x03") and (
                device / "vendor"
            ).read_text().strip() == vendor:
                return True
    except OSError:
        return False
    return False


def _try(query: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """(value, "") or (None, what went wrong)."""
    try:
        return query(*arguments), ""
    except Exception as error:  # noqa: BLE001  old drivers lack functions, broken ones garble
        return None, str(error) or type(error).__name__


def _ask(query: Callable[..., Any], *arguments: Any) -> Any:
    return _try(query, *arguments)[0]


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value.strip() or None if isinstance(value, str) else None


def _number(value: Any, most: float, scale: float = 1.0, least: float = 0.0) -> float | None:
    """A number in its believable range, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    scaled = value * scale
    return scaled if least <= scaled <= most else None


def _whole(value: Any, most: float) -> int | None:
    number = _number(value, most)
    return None if number is None else int(number)


def _read_gpu(nvml: Any, index: int) -> tuple[Gpu, bool]:
    """One GPU, and whether it is lost to this instance of the library."""
    handle, problem = _try(nvml.nvmlDeviceGetHandleByIndex, index)
    if handle is None:
        return Gpu(index=index), "lost" in problem.lower()
    total, used, free, reserved = _memory(nvml, handle)
    gpu = Gpu(
        index=index,
        uuid=_text(_ask(nvml.nvmlDeviceGetUUID, handle)),
        name=_text(_ask(nvml.nvmlDeviceGetName, handle)),
        total=total,
        used=used,
        free=free,
        reserved=reserved,
        utilisation=_whole(
            getattr(_ask(nvml.nvmlDeviceGetUtilizationRates, handle), "gpu", None), 100
        ),
        temperature=_whole(_ask(nvml.nvmlDeviceGetTemperature, handle, 0), 200),
        power=_number(_ask(nvml.nvmlDeviceGetPowerUsage, handle), MOST_WATTS, 1e-3),
        power_limit=_number(_ask(nvml.nvmlDeviceGetEnforcedPowerLimit, handle), MOST_WATTS, 1e-3),
        capability=_capability(_ask(nvml.nvmlDeviceGetCudaComputeCapability, handle)),
        processes=_processes(nvml, handle),
        clock=_whole(_ask(nvml.nvmlDeviceGetClockInfo, handle, 1), 20_000),
        memory_clock=_whole(_ask(nvml.nvmlDeviceGetClockInfo, handle, 2), 50_000),
        throttled=_throttled(_ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle)),
        pcie=_pcie(nvml, handle),
        mig=_mig(_ask(nvml.nvmlDeviceGetMigMode, handle)),
    )
    return gpu, False


def _memory(nvml: Any, handle: Any) -> tuple[int | None, int | None, int | None, int | None]:
    """(total, used, free, reserved); a reading that contradicts itself counts as none."""
    newer = getattr(nvml, "nvmlMemory_v2", None)
    info = _ask(nvml.nvmlDeviceGetMemoryInfo, handle, newer) if newer is not None else None
    info = info or _ask(nvml.nvmlDeviceGetMemoryInfo, handle)
    total = _whole(getattr(info, "total", None), MOST_MEMORY)
    if not total:
        return None, None, None, None
    used = _whole(getattr(info, "used", None), total)
    free = _whole(getattr(info, "free", None), total)
    return total, used, free, _whole(getattr(info, "reserved", None), total)


def _capability(value: Any) -> tuple[int, int] | None:
    if not isinstance(value, tuple | list) or len(value) != 2:
        return None
    major, minor = (_whole(part, 99) for part in value)
    return None if major is None or minor is None or major == 0 else (major, minor)


def _throttled(bits: Any) -> tuple[str, ...]:
    if not isinstance(bits, int):
        return ()
    return tuple(reason for bit, reason in THROTTLE_REASONS if bits & bit)


def _pcie(nvml: Any, handle: Any) -> str | None:
    generation = _whole(_ask(nvml.nvmlDeviceGetCurrPcieLinkGeneration, handle), 12)
    width = _whole(_ask(nvml.nvmlDeviceGetCurrPcieLinkWidth, handle), 64)
    return f"{generation}.0 x{width}" if generation and width else None


def _mig(modes: Any) -> bool:
    return isinstance(modes, tuple | list) and bool(modes) and modes[0] == 1


def _processes(nvml: Any, handle: Any) -> tuple[GpuProcess, ...]:
    found: dict[int, GpuProcess] = {}
    for query in (
        nvml.nvmlDeviceGetComputeRunningProcesses,
        nvml.nvmlDeviceGetGraphicsRunningProcesses,
    ):
        for process in _ask(query, handle) or ():
            pid = _whole(getattr(process, "pid", None), 1 << 32)
            if pid is not None:
                memory = _whole(getattr(process, "usedGpuMemory", None), MOST_MEMORY)
                name, ours = _identity(pid)
                found[pid] = GpuProcess(pid, memory, name, ours)
    return tuple(found.values())


def _identity(pid: int) -> tuple[str | None, bool]:
    """(name, whether it is ours); neither can be told of a process in another namespace."""
    import psutil

    try:
        process = psutil.Process(pid)
        name = process.name()
        ours = pid == os.getpid() or any(
            part.startswith(("core.", "tui.")) for part in process.cmdline()[1:5]
        )
    except (psutil.Error, OSError, ValueError):
        return None, False
    return name, ours


def _cuda_version(nvml: Any) -> str | None:
    number = _whole(_ask(nvml.nvmlSystemGetCudaDriverVersion), 1_000_000)
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def _with_visibility(gpus: list[Gpu]) -> tuple[Gpu, ...]:
    from dataclasses import replace

    seen = visible_indices(os.environ.get("CUDA_VISIBLE_DEVICES"), [gpu.uuid for gpu in gpus])
    return tuple(gpu if gpu.index in seen else replace(gpu, visible=False) for gpu in gpus)


def _note_for(gpus: tuple[Gpu, ...]) -> str:
    if not gpus:
        return NO_GPU
    if not any(gpu.visible for gpu in gpus):
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    silent = [str(gpu.index) for gpu in gpus if gpu.total is None and gpu.name is None]
    return f"GPU {', '.join(silent)} does not answer" if silent else ""
