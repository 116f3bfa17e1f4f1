"""A line chart of braille dots, cheap enough to redraw every second over SSH."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip

from core.runs.series import Column, Series
from tui.widgets.braille import BLANK, Canvas
from tui.widgets.painted import Painted
from tui.widgets.ticks import linear_ticks, log_ticks, step_ticks, tick_texts

Look = Literal["main", "faint", "marked"]
MARK = "◆"
DOTTED = 4
"""A marked curve sets one dot in so many columns between its points."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A series to draw. `faint` lies behind the others; `marked` sets a ◆ at each point, so
    that the two lines differ without colour too."""

    series: Series
    look: Look = "main"


@dataclass(frozen=True, slots=True)
class _Frame:
    """The plotted range. On a logarithmic axis `low` and `high` are logarithms."""

    first: float
    last: float
    low: float
    high: float
    log: bool

    def scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-300)) if self.log else value

    def ticks(self, most: int) -> list[float]:
        if self.log:
            return log_ticks(10**self.low, 10**self.high, most)
        return linear_ticks(self.low, self.high, most)


class Chart(Painted):
    """Curves over steps. Values that are not finite are gaps; log-y leaves out what is ≤ 0."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--axis",
        "chart--main",
        "chart--faint",
        "chart--marked",
    }
    DEFAULT_CSS = """
    Chart { height: 1fr; }
    Chart > .chart--axis { color: $foreground-muted; }
    Chart > .chart--main { color: $primary; }
    Chart > .chart--faint { color: $border; }
    Chart > .chart--marked { color: $accent; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._curves: tuple[Curve, ...] = ()
        self._first = 0.0
        self._last = 1.0
        self._log = False
        self._empty = ""

    def show(
        self,
        curves: Sequence[Curve],
        first: float,
        last: float,
        *,
        log: bool = False,
        empty: str = "",
    ) -> None:
        """Draw these curves between two steps; `empty` is said while there is no point yet."""
        self._curves, self._log, self._empty = tuple(curves), log, empty
        self._first, self._last = first, max(last, first + 1)
        self.redraw()

    def draw(self, size: Size) -> list[Strip]:
        frame = self._frame()
        if frame is None or size.height < 3 or size.width < 16:
            return self._words(size)
        rows = size.height - 2
        ticks = frame.ticks(max(2, rows // 2 if rows < 10 else rows // 3 + 1))
        labels = tick_texts(ticks)
        margin = max((len(label) for label in labels), default=0) + 1
        width = size.width - margin - 1
        plot = _Plot(frame, width, rows)
        at_row = {plot.cell_row(tick): text for tick, text in zip(ticks, labels, strict=True)}
        for curve in self._curves:
            plot.add(curve)
        axis = self._style("chart--axis")
        strips = []
        for row in range(rows):
            text = at_row.get(row, "")
            left = Segment(f"{text:>{margin - 1}} {'┤' if text else '│'}", axis)
            strips.append(Strip([left, *plot.segments(row, self._style)], size.width))
        strips.extend(_x_axis(frame, margin, width, axis))
        return strips

    def _frame(self) -> _Frame | None:
        """The range that holds every drawn value, with a little air; None without a value."""
        values = [
            value
            for curve in self._curves
            for column in curve.series.columns(self._first, self._last, 400)
            for value in (column.low, column.high)
            if not self._log or value > 0
        ]
        if not values:
            return None
        low, high = min(values), max(values)
        if self._log:
            low, high = math.log10(low), math.log10(high)
        air = (high - low) * 0.04 or abs(high) * 0.1 or 0.5
        floor = 0.0 if not self._log and 0 <= low < 0.3 * high else low - air
        return _Frame(self._first, self._last, floor, high + air, self._log)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(name)

    def _words(self, size: Size) -> list[Strip]:
        """One quiet sentence in the middle, where there is nothing to draw."""
        style = self._style("chart--axis")
        blank = Strip([Segment(" " * size.width, style)], size.width)
        strips = [blank] * size.height
        text = self._empty[: size.width].center(size.width)
        if strips:
            strips[size.height // 2] = Strip([Segment(text, style)], size.width)
        return strips


class _Plot:
    """The area within the axes: a canvas for each look, laid over each other."""

    ORDER: tuple[Look, ...] = ("main", "marked", "faint")

    def __init__(self, frame: _Frame, width: int, rows: int) -> None:
        self._frame, self._width, self._rows = frame, width, rows
        self._canvases: dict[Look, Canvas] = {}
        self._marks: set[tuple[int, int]] = set()

    def dot_row(self, value: float) -> int:
        """The row of dots that shows a value, 0 on top."""
        frame = self._frame
        share = (frame.scaled(value) - frame.low) / (frame.high - frame.low)
        return round((1 - share) * (self._rows * 4 - 1))

    def cell_row(self, value: float) -> int:
        return self.dot_row(value) // 4

    def add(self, curve: Curve) -> None:
        """Draw a curve: each pixel column from its least to its greatest value, joined up."""
        canvas = self._canvases.setdefault(curve.look, Canvas(self._width, self._rows))
        every = DOTTED if curve.look == "marked" else 1
        columns = curve.series.columns(self._frame.first, self._frame.last, self._width * 2)
        before: Column | None = None
        for column in columns:
            if self._frame.log and column.low <= 0:
                before = None
                continue
            canvas.column(column.index, self.dot_row(column.high), self.dot_row(column.low))
            if before is not None and column.joined:
                start, end = self.dot_row(before.last), self.dot_row(column.first)
                canvas.line(before.index, start, column.index, end, every)
            if curve.look == "marked":
                self._marks.add((column.index // 2, self.cell_row(column.last)))
            before = column

    def segments(self, row: int, style: Callable[[str], Style]) -> list[Segment]:
        """A row of cells as few runs of one style: blanks belong to the run they follow."""
        runs: list[tuple[str, list[str]]] = []
        for column in range(self._width):
            look, char = self._cell(column, row)
            if runs and (char == " " or runs[-1][0] == look):
                runs[-1][1].append(char)
            else:
                runs.append((look, [char]))
        return [Segment("".join(chars), style(f"chart--{look}")) for look, chars in runs]

    def _cell(self, column: int, row: int) -> tuple[str, str]:
        if (column, row) in self._marks:
            return "marked", MARK
        for look in self.ORDER:
            canvas = self._canvases.get(look)
            bits = canvas.bits(column, row) if canvas else 0
            if bits:
                return look, chr(BLANK + bits)
        return "axis", " "


def _x_axis(frame: _Frame, margin: int, width: int, style: Style) -> list[Strip]:
    """The line below the plot with its ticks, and the steps under them."""
    ticks = step_ticks(frame.first, frame.last, max(2, width // 12))
    line, labels = ["─"] * width, [" "] * (margin + 1 + width)
    for tick, text in zip(ticks, tick_texts(ticks), strict=True):
        x = round((tick - frame.first) / (frame.last - frame.first) * (width - 1))
        line[x] = "┬"
        start = max(0, min(margin + 1 + x - len(text) // 2, len(labels) - len(text)))
        labels[start : start + len(text)] = text
    total = margin + 1 + width
    return [
        Strip([Segment(" " * margin + "└" + "".join(line), style)], total),
        Strip([Segment("".join(labels), style)], total),
    ]
