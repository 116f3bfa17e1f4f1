"""A reading of the machine. A value that could not be read is None and is shown as a dash."""

from __future__ import annotations

from dataclasses import dataclass

OLDEST_CAPABILITY = (7, 0)
"""Of the cards that today's builds of torch have kernels for."""


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process on a GPU; memory in bytes. `ours` marks this program and its runs."""

    pid: int
    memory: int | None
    name: str | None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Memory in bytes, utilisation in %, temperature in °C, power in watts, clocks in MHz.

    `visible` is False where CUDA_VISIBLE_DEVICES keeps a run from using it. `throttled` holds the
    reasons why the clocks are lower than they could be (empty: none; None: not known). With `mig`
    a run takes one of `slices`, never the whole card; a slice is a GPU with the index of its card
    and a UUID of its own.
    """

    index: int
    uuid: str | None = None
    name: str | None = None
    total: int | None = None
    used: int | None = None
    free: int | None = None
    utilisation: int | None = None
    temperature: int | None = None
    power: float | None = None
    power_limit: float | None = None
    capability: tuple[int, int] | None = None
    processes: tuple[GpuProcess, ...] = ()
    visible: bool = True
    reserved: int | None = None
    clock: int | None = None
    memory_clock: int | None = None
    throttled: tuple[str, ...] | None = None
    pcie: str | None = None
    mig: bool = False
    slices: tuple[Gpu, ...] = ()

    @property
    def too_old(self) -> bool:
        """Whether torch has most likely no kernels for it."""
        return self.capability is not None and self.capability < OLDEST_CAPABILITY


@dataclass(frozen=True, slots=True)
class Machine:
    """One look at everything. `gpus` is empty without an NVIDIA GPU; `gpu_note` says why.

    `cpu_percent` is the share of all cores in use since the last reading. `disk_…` are of the
    folder that runs are kept in, `cache_…` of that which models are downloaded to.
    """

    taken: float
    gpus: tuple[Gpu, ...]
    gpu_note: str
    driver: str | None
    cpu_name: str
    cores: int
    cpu_percent: float | None
    ram_total: int
    ram_available: int
    disk_total: int | None
    disk_free: int | None
    cuda: str | None = None
    cache_total: int | None = None
    cache_free: int | None = None

    def devices(self) -> list[Gpu]:
        """What a run may be given: the visible GPUs, or their slices where they are cut up."""
        whole = [gpu for gpu in self.gpus if not gpu.mig]
        slices = [part for gpu in self.gpus if gpu.mig for part in gpu.slices]
        return [gpu for gpu in (*whole, *slices) if gpu.visible]

    def cards(self) -> list[Gpu]:
        """The whole GPUs of which several can train together, most free memory first."""
        usable = [gpu for gpu in self.gpus if gpu.visible and not gpu.mig and gpu.free is not None]
        return sorted(usable, key=lambda gpu: -(gpu.free or 0))

    def best_gpu(self) -> Gpu | None:
        """The GPU a run would take: the visible one with most free memory, of those that are not
        too old if there are any."""
        usable = [gpu for gpu in self.devices() if gpu.free is not None]
        return max(usable, key=lambda gpu: (not gpu.too_old, gpu.free or 0), default=None)

    def as_sample(self) -> dict[str, object]:
        """The line that `gpu.jsonl` keeps of it: the moving values only."""
        return {
            "v": 1,
            "t": round(self.taken, 3),
            "kind": "machine",
            "cpu": self.cpu_percent,
            "ram_available": self.ram_available,
            "disk_free": self.disk_free,
            "gpus": [
                {
                    "index": gpu.index,
                    "used": gpu.used,
                    "total": gpu.total,
                    "utilisation": gpu.utilisation,
                    "temperature": gpu.temperature,
                    "power": gpu.power,
                }
                for gpu in self.gpus
            ],
        }
