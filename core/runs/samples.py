"""The machine's readings that a run keeps beside it (`gpu.jsonl`, one a second).

They let a screen show what the GPU did while nobody watched. `Machine.as_sample` writes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.runs.events import Event, EventReader

RECENT = 240


@dataclass(frozen=True, slots=True)
class GpuSample:
    """One GPU at one moment; None is what could not be read."""

    index: int
    used: int | None
    total: int | None
    utilisation: float | None
    temperature: float | None
    power: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """The machine at one moment. Memory in bytes, `cpu` in % of all cores."""

    time: float
    cpu: float | None
    ram_available: int | None
    disk_free: int | None
    gpus: tuple[GpuSample, ...]


@dataclass(slots=True)
class SampleHistory:
    """The latest readings and the greatest use of each GPU's memory since the run began."""

    recent: deque[Sample] = field(default_factory=lambda: deque(maxlen=RECENT))
    peak_used: dict[int, int] = field(default_factory=dict)

    @property
    def latest(self) -> Sample | None:
        return self.recent[-1] if self.recent else None

    def update(self, lines: Iterable[Event]) -> None:
        """Fold further lines in, in the order of the file."""
        for line in lines:
            sample = _sample(line)
            self.recent.append(sample)
            for gpu in sample.gpus:
                if gpu.used is not None:
                    self.peak_used[gpu.index] = max(self.peak_used.get(gpu.index, 0), gpu.used)


class SampleReader:
    """Follows a run's `gpu.jsonl`."""

    def __init__(self, path: Path, budget: int = 512 * 1024) -> None:
        self._reader = EventReader(path, budget)
        self.history = SampleHistory()

    @property
    def behind(self) -> bool:
        """Whether more lies ready than was read."""
        return self._reader.behind

    def read(self) -> SampleHistory:
        """Read on, at most the budget, and return the history so far."""
        self.history.update(self._reader.read())
        return self.history


def _sample(line: Event) -> Sample:
    gpus = line.get("gpus")
    return Sample(
        _number(line.get("t")) or 0.0,
        _number(line.get("cpu")),
        _whole(line.get("ram_available")),
        _whole(line.get("disk_free")),
        tuple(_gpu(tree) for tree in gpus if isinstance(tree, dict))
        if isinstance(gpus, list)
        else (),
    )


def _gpu(tree: dict[str, Any]) -> GpuSample:
    return GpuSample(
        _whole(tree.get("index")) or 0,
        _whole(tree.get("used")),
        _whole(tree.get("total")),
        _number(tree.get("utilisation")),
        _number(tree.get("temperature")),
        _number(tree.get("power")),
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and value == value else None
