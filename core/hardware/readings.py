"""One look at the machine: GPUs through NVML, and CPU, RAM and disk. Cheap, and never raises."""

from __future__ import annotations

import time
from threading import Lock

from core.hardware import host
from core.hardware.machine import Machine
from core.hardware.nvml import Nvml
from core.models.hub_cache import cache_root
from core.paths import home

_nvml = Nvml()
_lock = Lock()  # the app reads from a worker thread, and NVML's state is one for all


def read_machine() -> Machine:
    """The machine as it is now; what cannot be read is None."""
    with _lock:
        gpus, note, driver, cuda = _nvml.read()
    ram_total, ram_available = host.memory()
    disk_total, disk_free = host.disk(home())
    cache_total, cache_free = host.disk(cache_root())
    return Machine(
        taken=time.time(),
        gpus=gpus,
        gpu_note=note,
        driver=driver,
        cpu_name=host.cpu_name(),
        cores=host.cores(),
        cpu_percent=host.cpu_percent(),
        ram_total=ram_total,
        ram_available=ram_available,
        disk_total=disk_total,
        disk_free=disk_free,
        cuda=cuda,
        cache_total=cache_total,
        cache_free=cache_free,
    )
