"""One simulation in a process of its own: `… core.memory.simulation.worker SETUP`.

SETUP is JSON (`core.memory.setup.to_json`). Prints one JSON object: the parts at the peak of what
is allocated, and both peaks of the allocator, in bytes. Ends with its parent.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from core.inference.wire import Wire, end_with_stdin
from core.memory.setup import Setup, from_json

if TYPE_CHECKING:
    from core.memory.simulation.allocator import Event
    from core.memory.simulation.step import Step


def main(text: str) -> None:
    as_if_alone()
    wire = Wire()
    end_with_stdin()
    wire.send(**simulate(from_json(text)))


def simulate(setup: Setup) -> dict[str, Any]:
    """Record a step, then run it through the allocator as a training does."""
    from core.memory.simulation.allocator import Allocator, replay, rounded
    from core.memory.simulation.together import processes

    with processes(setup):
        log = _step_of(setup).record()
    allocator = Allocator(expandable=setup.expandable)
    allocator.allocate(0, rounded(log.warm_up))
    allocator.free(0)
    for events in log.stages:
        replay(events, allocator, log.streams)
    parts = parts_at_peak(chain.from_iterable(log.stages), log.purposes)
    return {
        "parts": parts,
        "allocated": allocator.peak_allocated,
        "reserved": allocator.peak_reserved,
    }


def _step_of(setup: Setup) -> Step:
    if setup.in_parts and setup.sharding == "zero3":
        from core.memory.simulation.zero import ZeroStep

        return ZeroStep(setup)
    from core.memory.simulation.step import Step

    return Step(setup)


def parts_at_peak(events: Iterable[Event], purposes: dict[int, str]) -> dict[str, int]:
    """What everything alive is for, at the moment when most is."""
    from core.memory.simulation.allocator import rounded

    parts: dict[str, int] = {}
    sizes: dict[int, int] = {}
    total = most = 0
    at_peak: dict[str, int] = {}
    for key, size in events:
        sizes[key] = rounded(size) if size >= 0 else sizes[key]
        change = sizes[key] if size >= 0 else -sizes[key]
        parts[purposes[key]] = parts.get(purposes[key], 0) + change
        total += change
        if total > most:
            most, at_peak = total, dict(parts)
    return at_peak


def as_if_alone() -> None:
    """No network, no GPU, no notes of the libraries."""
    os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TRL_EXPERIMENTAL_SILENCE="1")
    os.environ.update(TORCH_CPP_LOG_LEVEL="ERROR", DS_ACCELERATOR="cpu")
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # taking torch apart in good order takes a second
