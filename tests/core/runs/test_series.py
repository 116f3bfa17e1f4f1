import math

import pytest

from core.runs.series import Series


def series(*points):
    made = Series()
    for step, value in points:
        made.put(step, value)
    return made


def test_none_is_no_point_and_nonsense_is_nan():
    curve = series((1, 2.0), (2, None), (3, "x"))
    assert [step for step, _ in curve] == [1, 3]
    assert math.isnan(curve.last)
    assert list(curve.gaps) == [3]


def test_a_step_told_again_replaces_all_from_there_on():
    curve = series((1, 1.0), (2, math.nan), (3, 3.0), (2, 5.0))
    assert list(curve) == [(1, 1.0), (2, 5.0)]
    assert not curve.gaps


def test_the_best_value_is_the_least_finite_one():
    assert series((1, 3.0), (2, math.nan), (3, 1.5), (4, 2.0)).best == (3, 1.5)
    assert series((1, math.nan)).best is None
    assert series().best is None


def test_decimation_keeps_a_spike_of_one_step_in_100_000():
    curve = Series()
    for step in range(100_000):
        curve.put(step, 1.0)
    curve.put(100_000, 1.0)
    curve.values[54_321] = 9.0
    columns = curve.columns(0, 100_000, 160)
    assert len(columns) == 160
    assert [column.high for column in columns].count(9.0) == 1
    assert all(column.low == 1.0 for column in columns)


def test_no_line_is_drawn_across_a_nan():
    curve = series(*((step, math.nan if step == 5 else float(step)) for step in range(10)))
    columns = curve.columns(0, 9, 10)
    assert [column.index for column in columns] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert [column.index for column in columns if not column.joined] == [0, 6]


def test_a_nan_within_a_column_breaks_the_line_but_not_the_values():
    curve = series((0, 1.0), (1, math.nan), (2, 3.0), (100, 4.0))
    first, last = curve.columns(0, 100, 2)
    assert (first.low, first.high, first.first, first.last) == (1.0, 3.0, 1.0, 3.0)
    assert last.joined


def test_infinity_is_a_gap_too():
    assert [c.high for c in series((0, 1.0), (1, math.inf)).columns(0, 1, 2)] == [1.0]


@pytest.mark.parametrize(("first", "last", "count"), [(0, 10, 0), (5, 1, 10), (20, 30, 10)])
def test_a_range_without_points_has_no_columns(first, last, count):
    assert series((1, 1.0), (2, 2.0)).columns(first, last, count) == []


def test_smoothing_starts_at_the_first_value_and_leaves_gaps():
    curve = series((1, 4.0), (2, math.nan), (3, 4.0), (4, 0.0)).smoothed(9)
    assert curve.values[0] == pytest.approx(4.0)
    assert math.isnan(curve.values[1])
    assert curve.values[2] == pytest.approx(4.0)
    assert 0 < curve.values[3] < 4
    assert list(curve.gaps) == [2]


def test_a_copy_is_not_reached_by_further_points():
    curve = series((1, 1.0))
    twin = curve.copy()
    curve.put(2, 2.0)
    assert len(twin) == 1
