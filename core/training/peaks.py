"""The most memory that this process has held: what a trial reports and a prediction is held to."""

from __future__ import annotations

import os
import resource
import sys

from core.hardware.readings import read_machine


def memory_peaks() -> dict[str, int | None]:
    """Bytes: `ram_peak` (resident), and on a GPU `vram_peak` as NVML shows the process, and what
    torch's allocator held (`vram_reserved`) and had in use (`vram_allocated`) at its peak."""
    found: dict[str, int | None] = {"ram_peak": _resident_peak(), "vram_peak": None}
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return found
    reserved = int(torch.cuda.max_memory_reserved())
    # The allocator keeps what it has reserved, so what is held beside it is context and libraries.
    shown = _shown_by_nvml()
    beside = max(0, shown - int(torch.cuda.memory_reserved())) if shown is not None else 0
    found["vram_reserved"] = reserved
    found["vram_allocated"] = int(torch.cuda.max_memory_allocated())
    found["vram_peak"] = reserved + beside
    return found


def _resident_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _shown_by_nvml() -> int | None:
    mine = [
        process.memory
        for gpu in read_machine().gpus
        for process in gpu.processes
        if process.pid == os.getpid() and process.memory is not None
    ]
    return sum(mine) if mine else None
