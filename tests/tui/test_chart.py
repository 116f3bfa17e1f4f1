"""The chart's arithmetic, and what it draws and repaints."""

from __future__ import annotations

import math

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from core.runs.history import RunHistory
from core.runs.series import Series
from tests.tui.fake_runs import training_events
from tui.widgets.chart import MARK, Chart, Curve
from tui.widgets.chart_choice import ChartChoice
from tui.widgets.ticks import linear_ticks, log_ticks, tick_texts


class ChartApp(App[None]):
    def compose(self) -> ComposeResult:
        yield Chart()

    @property
    def chart(self) -> Chart:
        return self.query_one(Chart)


def line(values):
    made = Series()
    for step, value in enumerate(values):
        made.put(step, value)
    return made


def drawn(chart: Chart) -> list[str]:
    return [chart.render_line(y).text for y in range(chart.size.height)]


def braille(text: str) -> set[int]:
    return {x for x, char in enumerate(text) if "\u2801" <= char <= "\u28ff"}


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 1, 6, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.3, 2.9, 4, [1, 2]),
        (1.02, 1.04, 3, [1.02, 1.03, 1.04]),
        (5, 5, 4, [5]),
        (0, 123_456, 4, [0, 50_000, 100_000]),
    ],
)
def test_ticks_are_round(low, high, most, expected):
    assert linear_ticks(low, high, most) == pytest.approx(expected)


def test_ticks_of_a_logarithmic_axis():
    assert log_ticks(0.09, 11, 8) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5, 10])
    assert log_ticks(1e-6, 10, 4) == pytest.approx([1e-6, 1e-4, 1e-2, 1])
    assert len(log_ticks(2.1, 2.4, 3)) >= 1
    assert log_ticks(0, 1, 4) == []


def test_ticks_are_written_alike():
    assert tick_texts([0, 0.5, 1]) == ["0.0", "0.5", "1.0"]
    assert tick_texts([0, 50_000, 100_000]) == ["0", "50k", "100k"]
    assert tick_texts([0.0001, 0.0002]) == ["1.0e-4", "2.0e-4"]


async def test_every_line_is_as_wide_as_the_chart_at_any_size():
    app = ChartApp()
    async with app.run_test(size=(80, 12)) as pilot:
        for size in [(80, 12), (200, 50), (17, 3), (12, 2), (61, 7)]:
            await pilot.resize_terminal(*size)
            app.chart.show([Curve(line([3, 1, 2, 0.5]))], 0, 3)
            await pilot.pause()
            assert [len(text) for text in drawn(app.chart)] == [size[0]] * size[1]


async def test_a_falling_curve_falls_from_the_left_top_to_the_right_bottom():
    app = ChartApp()
    async with app.run_test(size=(60, 14)):
        app.chart.show([Curve(line([10 - i for i in range(11)]))], 0, 10)
        rows = drawn(app.chart)
        assert min(braille(rows[0])) < 8
        assert max(braille(rows[11])) >= 58
        labels = [text.split()[0] for text in rows if "┤" in text]
        assert labels == ["10.0", "7.5", "5.0", "2.5", "0.0"]


async def test_nan_is_a_gap_and_not_a_zero():
    app = ChartApp()
    async with app.run_test(size=(61, 12)):
        values = [5.0 if not 40 <= step <= 60 else math.nan for step in range(101)]
        app.chart.show([Curve(line(values))], 0, 100)
        columns = set().union(*(braille(text) for text in drawn(app.chart)))
        left, right = app.chart.size.width * 0.45, app.chart.size.width * 0.6
        assert not {x for x in columns if left < x < right}
        assert len(columns) > 35


async def test_a_curve_of_nothing_but_nan_is_said_in_words():
    app = ChartApp()
    async with app.run_test(size=(60, 9)):
        app.chart.show([Curve(line([math.nan] * 5))], 0, 5, empty="nothing to draw")
        assert "nothing to draw" in "".join(drawn(app.chart))


async def test_evaluations_are_marked_so_that_colour_is_not_needed():
    app = ChartApp()
    async with app.run_test(size=(60, 12)):
        evals = Series()
        evals.put(3, 1.0)
        evals.put(9, 2.0)
        app.chart.show([Curve(line([1.5] * 10)), Curve(evals, "marked")], 0, 9)
        assert "".join(drawn(app.chart)).count(MARK) == 2


async def test_a_logarithmic_axis_leaves_out_what_it_cannot_show():
    app = ChartApp()
    async with app.run_test(size=(60, 16)):
        app.chart.show([Curve(line([100, 10, 0, 1, 0.1]))], 0, 4, log=True)
        labels = [text.split()[0] for text in drawn(app.chart) if "┤" in text]
        assert labels == ["100.0", "10.0", "1.0", "0.1"]
        app.chart.show([Curve(line([0, 0]))], 0, 1, log=True, empty="nothing")
        assert "nothing" in "".join(drawn(app.chart))


async def test_only_what_has_changed_is_repainted(monkeypatch):
    app = ChartApp()
    async with app.run_test(size=(100, 20)) as pilot:
        values = [3.0, 1.0] + [2.0] * 40
        app.chart.show([Curve(line(values))], 0, 100)
        await pilot.pause()
        regions: list[Region] = []
        monkeypatch.setattr(app.chart, "refresh", lambda *parts, **_: regions.extend(parts))
        app.chart.show([Curve(line(values))], 0, 100)
        assert regions == []
        app.chart.show([Curve(line([*values, 2.0]))], 0, 100)
        assert 1 <= sum(region.area for region in regions) <= 6


async def test_a_hundred_thousand_points_are_drawn_at_once():
    app = ChartApp()
    async with app.run_test(size=(120, 30)):
        curve = Series()
        for step in range(100_000):
            curve.put(step, 2 + math.sin(step / 3000))
        curve.put(100_000, 40.0)
        app.chart.show([Curve(curve)], 0, 100_000)
        assert max(braille(drawn(app.chart)[1])) >= 118, "the last spike is there"


def test_the_axis_changes_by_halves_and_ends_at_the_last_step():
    choice, history = ChartChoice(), RunHistory(total_steps=1000)
    ends = []
    for history.step in range(1, 1001):
        ends.append(choice.steps(history)[1])
    assert sorted(set(ends)) == [15.625, 31.25, 62.5, 125, 250, 500, 1000]
    assert ends[-1] == 1000
    assert all(step <= end for step, end in zip(range(1, 1001), ends, strict=True))


def test_zoom_offers_only_what_is_closer():
    choice = ChartChoice()
    assert choice.next_zoom(30).zoom is None
    assert choice.next_zoom(120).zoom == 50
    assert choice.next_zoom(500).zoom == 200
    assert choice.next_zoom(500).next_zoom(500).next_zoom(500).zoom is None


def test_smoothing_keeps_the_raw_curve_behind():
    history = RunHistory()
    history.update({"v": 1, **event} for event in training_events(40))
    curves = ChartChoice(smooth=True).curves(history)
    assert [curve.look for curve in curves] == ["faint", "main", "marked"]
    assert ChartChoice(metric="grad norm").curves(history)[0].series.last == history.grad_norm.last
