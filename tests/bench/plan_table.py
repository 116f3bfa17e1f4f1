"""What the Plan screen computes on each key: one prediction, one row, the table, what is elsewhere.

    python -m tests.bench.plan_table

Median of eleven, printed beside a yardstick of the same loop (a thousand JSON round trips of a
small object), so that machines can be compared by the ratio. Nothing is asserted.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace

from core.models.catalogue import load_catalogue
from core.planning.candidates import Plan
from core.planning.elsewhere import managed, rented
from core.planning.planner import plan
from core.planning.retuning import retune
from tests.core.planning.test_planner import CHAT, machine

PADDED = replace(CHAT, padding=0.2)
"""With so much padding that packing is weighed for every candidate."""
ROUNDS = 11
CANDIDATES = 500
LIMITS = {"a knob turned (one candidate)": 0.001, "the table of 500": 0.2}
"""What is asked for, in seconds on two cores."""


def yardstick() -> None:
    for _ in range(1000):
        json.loads(json.dumps({"a": [1, 2, 3], "b": "text", "c": 1.5}))


def table() -> Plan:
    """As many models as make 500 candidates with the methods on offer."""
    cards = load_catalogue()
    each = len(plan(machine(24), PADDED, models=cards[:2]).candidates) // 2
    wanted = -(-CANDIDATES // each)
    return plan(machine(24), PADDED, models=(cards * (wanted // len(cards) + 1))[:wanted])


def medians(measures: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds each, all of them in turn within one loop."""
    times: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(ROUNDS + 1):
        for name, measure in measures.items():
            start = time.process_time()
            measure()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["TUNEDECK_HOME"] = home
        star = plan(machine(24), PADDED).candidates[0]
        lengths = iter(range(512, 100_000, 8))  # another length each time: nothing is remembered
        found = medians(
            {
                "yardstick": yardstick,
                "a knob turned (one candidate)": lambda: retune(star, seq_length=next(lengths)),
                "the table of 500": table,
                "other GPUs and services": lambda: (
                    rented(retune(star, seq_length=next(lengths))),
                    managed(star),
                ),
            }
        )
    unit = found.pop("yardstick")
    print(f"{'CPU time':<34}{'ms':>10}{'yardsticks':>12}{'asked for, ms':>15}")
    for name, seconds in found.items():
        limit = f"{1000 * LIMITS[name]:.0f}" if name in LIMITS else ""
        print(f"{name:<34}{1000 * seconds:>10.3f}{seconds / unit:>12.2f}{limit:>15}")


if __name__ == "__main__":
    main()
