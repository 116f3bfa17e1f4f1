"""The simulation held to what was measured on a GPU: the committed table, and one run right now."""

from __future__ import annotations

import statistics

from core.planning.calibration import ASSUMED
from tests.bench.published_runs import known_rows, simulated

MEDIAN, WORST = 0.02, 0.08


def test_the_simulation_agrees_with_what_was_measured_on_a_gpu() -> None:
    rows = known_rows()
    assert len({row.method for row in rows}) >= 10
    errors = [abs(row.error) for row in rows]
    assert statistics.median(errors) <= MEDIAN
    assert max(errors) <= WORST


def test_every_time_lies_in_the_range_that_is_shown_where_nothing_was_measured() -> None:
    for row in known_rows():
        expected = row.predicted_seconds
        assert ASSUMED.low * expected <= row.seconds <= ASSUMED.high * expected, row.run


def test_and_so_it_does_when_simulated_now() -> None:
    [row] = [each for each in known_rows() if each.run == "lora-rank32"]
    assert abs(simulated(row).error) <= MEDIAN
