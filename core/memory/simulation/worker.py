"""One simulation in a process of its own: `… core.memory.simulation.worker SETUP`.

SETUP is JSON (`core.memory.setup.to_json`). Prints one JSON object: the parts at the peak of what
is allocated, and both peaks of the allocator, in bytes. Ends with its parent.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

from core.inference.wire import Wire, end_with_stdin
from core.memory.setup import Setup, from_json


def main(text: str) -> None:
    as_if_alone()
    wire = Wire()
    end_with_stdin()
    wire.send(**simulate(from_json(text)))


def simulate(setup: Setup) -> dict[str, Any]:
    """Record a step, then run it through the allocator as a training does: the model is loaded,
    a step without and a step with the optimiser's states."""
    from core.memory.simulation.allocator import Allocator, replay, rounded
    from core.memory.simulation.step import Step
    from core.memory.simulation.together import processes

    with processes(setup):
        log = Step(setup).record()
    allocator = Allocator(expandable=setup.expandable)
    weights = sum(size for key, size in log.held if log.purposes[key] == "weights")
    allocator.allocate(0, rounded(weights))  # transformers warms the allocator up before it loads
    allocator.free(0)
    for events in (log.held, log.step, log.states, log.step):
        replay(events, allocator, log.streams)
    parts = parts_at_peak(log.held + log.states + log.step, log.purposes)
    return {
        "parts": parts,
        "allocated": allocator.peak_allocated,
        "reserved": allocator.peak_reserved,
    }


def parts_at_peak(events: list[tuple[int, int]], purposes: dict[int, str]) -> dict[str, int]:
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
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
    warnings.filterwarnings("ignore")
    logging.disable(logging.ERROR)


if __name__ == "__main__":
    main(sys.argv[1])
    os._exit(0)  # taking torch apart in good order takes a second
