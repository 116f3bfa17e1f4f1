"""What finished runs say about the speed of this machine. Each run is read once."""

from __future__ import annotations

import statistics
from contextlib import suppress
from typing import Any

from core.models.catalogue import ModelShape
from core.paths import runs_root
from core.planning.calibration import Measurement, keep, kept_measurements, known_sources
from core.runs.directory import RunDirectory, run_ids
from core.runs.events import Event, EventReader
from core.runs.series import as_number
from core.runs.state import current_state

WARMING_UP = 2  # steps that compile, tune and fill caches
LEAST_STEPS = 5


def measurements() -> list[Measurement]:
    """All that is known by now, the runs that have ended since the last call included."""
    known = known_sources()
    found, barren = [], []
    for name in run_ids():
        run = RunDirectory(runs_root() / name)
        if name in known or current_state(run).alive:
            continue
        measured = measurement_of(run)
        if measured is None:
            barren.append(name)
        else:
            found.append(measured)
    with suppress(OSError):  # a home that cannot be written is read again the next time
        keep(found, barren)
        return kept_measurements()
    return [*kept_measurements(), *found]


def measurement_of(run: RunDirectory) -> Measurement | None:
    """How fast the run trained; None for one that tells too little."""
    facts, speeds = _told(run)
    if facts is None or len(speeds) < WARMING_UP + LEAST_STEPS:
        return None
    try:
        shape = ModelShape(**facts["shape"])
        return Measurement(
            source=run.id,
            shape=shape,
            tokens_per_s=statistics.median(speeds[WARMING_UP:]),
            taken=facts["t"],
            **{key: facts[key] for key in _FACTS},
            **{key: facts[key] for key in _NEWER_FACTS if key in facts},
        )
    except (KeyError, TypeError):
        return None


_FACTS = (
    "device", "on_gpu", "cores", "method", "stack", "tokens_per_row", "micro_batch",
    "gradient_checkpointing", "peak_allocated", "peak_reserved",
)  # fmt: skip
_NEWER_FACTS = ("rank", "bits", "objective", "gpus")
"""What runs of an earlier version do not tell."""


def _told(run: RunDirectory) -> tuple[Event | None, list[float]]:
    """The last `measured` event, and the speed of every step."""
    reader, facts = EventReader(run.events), None
    speeds: list[float] = []
    while True:
        for event in reader.read():
            if event["kind"] == "measured":
                facts = event
            elif event["kind"] == "log":
                speed: Any = event.get("tokens_per_s")
                if speed is not None and (number := as_number(speed)) > 0:
                    speeds.append(number)
        if not reader.behind:
            return facts, speeds
