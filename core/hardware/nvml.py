"""NVIDIA GPUs as NVML sees them. Each query is guarded on its own; nothing here raises."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from core.hardware.machine import Gpu
from core.hardware.nvml_gpu import ask, attempt, read_gpu, text, whole
from core.hardware.visible import visible_places
from core.text import clip

RETRY_SECONDS = 30.0
"""How long a failed start of NVML stands before it is tried again."""

MOST_GPUS = 64
NO_GPU = "no NVIDIA GPU"
NOT_SUPPORTED = "the {} GPU is not supported, only NVIDIA's are"


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
        answer, problem = attempt(library, "nvmlDeviceGetCount")
        count = whole(answer, MOST_GPUS)
        if count is None:
            self._lose(problem or f"it counts {answer} GPUs")
            return (), self._note, None, None
        driver = text(ask(library, "nvmlSystemGetDriverVersion"))
        found = [read_gpu(library, index) for index in range(count)]
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
        ask(self._library, "nvmlShutdown")
        self._library = None


def why_no_gpu(error: Exception) -> str:
    """In words why NVML did not start: no GPU, a driver problem, AMD or Apple."""
    if platform.system() == "Darwin":
        arm = platform.machine() == "arm64"
        return NOT_SUPPORTED.format("Apple") if arm else NO_GPU
    name = type(error).__name__
    if name in ("NVMLError_LibraryNotFound", "ModuleNotFoundError"):
        if _pci_vendor_present("0x10de"):
            return "an NVIDIA GPU is there, but its driver is not installed"
        if Path("/dev/kfd").exists() or _pci_vendor_present("0x1002"):
            return NOT_SUPPORTED.format("AMD")
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


def _cuda_version(nvml: Any) -> str | None:
    number = whole(ask(nvml, "nvmlSystemGetCudaDriverVersion"), 1_000_000)
    return f"{number // 1000}.{number % 1000 // 10}" if number else None


def _with_visibility(gpus: list[Gpu]) -> tuple[Gpu, ...]:
    """With what CUDA_VISIBLE_DEVICES hides marked: whole cards, and slices of cards."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    if setting is None:
        return tuple(gpus)
    cards = [[part.uuid for part in (gpu, *gpu.slices)] for gpu in gpus]
    shown = visible_places(setting, cards)
    marked = []
    for at, gpu in enumerate(gpus):
        slices = tuple(
            replace(part, visible=(at, number) in shown)
            for number, part in enumerate(gpu.slices, start=1)
        )
        visible = (at, 0) in shown or any(part.visible for part in slices)
        marked.append(replace(gpu, visible=visible, slices=slices))
    return tuple(marked)


def _note_for(gpus: tuple[Gpu, ...]) -> str:
    if not gpus:
        return NO_GPU
    if not any(gpu.visible for gpu in gpus):
        return _all_hidden(os.environ.get("CUDA_VISIBLE_DEVICES", "").strip())
    silent = [str(gpu.index) for gpu in gpus if gpu.total is None and gpu.name is None]
    if silent:
        return f"GPU {', '.join(silent)} does not answer"
    empty = [str(gpu.index) for gpu in gpus if gpu.mig and not gpu.slices]
    if empty:
        return f"GPU {', '.join(empty)} is in MIG mode and has no slice"
    dark = [str(gpu.index) for gpu in gpus if gpu.free is None and not gpu.mig]
    return f"the free memory of GPU {', '.join(dark)} cannot be read" if dark else ""


def _all_hidden(setting: str) -> str:
    said = f"={clip(setting, 40)}" if setting else " is empty and"
    return f"CUDA_VISIBLE_DEVICES{said} hides every GPU"
