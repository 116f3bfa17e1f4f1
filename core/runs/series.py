"""A curve of a run: values by ascending step, small in memory, ready to be drawn.

A night of training is 100,000 points a curve, so the numbers lie in arrays (16 bytes a point)
and a curve is reduced to a handful of values a pixel column before anything is drawn. The
reduction keeps the least and the greatest of each column: a spike is never lost.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Column:
    """What one pixel column of a curve shows.

    `joined` says whether a line from the column before may be drawn: not across a NaN.
    """

    index: int
    first: float
    last: float
    low: float
    high: float
    joined: bool


class Series:
    """Values by step. `gaps` are the steps whose value is not finite; they stay in `values`."""

    __slots__ = ("gaps", "steps", "values")

    def __init__(self) -> None:
        self.steps: array[int] = array("q")
        self.values: array[float] = array("d")
        self.gaps: array[int] = array("q")

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> tuple[int, float]:
        return self.steps[index], self.values[index]

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.steps, self.values, strict=True)

    def put(self, step: int, value: Any) -> None:
        """Add a point; one at or before the last step replaces what was told from there on.

        None is no measurement and adds nothing; what is not a number becomes NaN, never 0.
        """
        if value is None:
            return
        if self.steps and self.steps[-1] >= step:
            self.rewind(step)
        number = as_number(value)
        self.steps.append(step)
        self.values.append(number)
        if not math.isfinite(number):
            self.gaps.append(step)

    def rewind(self, step: int) -> None:
        """Forget everything from `step` on: a resumed run tells it again."""
        keep = bisect_left(self.steps, step)
        del self.steps[keep:], self.values[keep:]
        del self.gaps[bisect_left(self.gaps, step) :]

    def copy(self) -> Series:
        """A copy that the owner's further points do not reach."""
        twin = Series()
        twin.steps, twin.values, twin.gaps = self.steps[:], self.values[:], self.gaps[:]
        return twin

    @property
    def last(self) -> float | None:
        """The latest value, NaN included; None while there is none."""
        return self.values[-1] if self.values else None

    @property
    def best(self) -> tuple[int, float] | None:
        """The step and value of the least finite value."""
        finite = [(value, step) for step, value in self if math.isfinite(value)]
        if not finite:
            return None
        value, step = min(finite)
        return step, value

    def smoothed(self, span: float) -> Series:
        """The exponential moving average over about `span` points, corrected at the start.

        NaN points stay gaps and leave the average alone.
        """
        keep = 1 - 2 / (span + 1)
        average = weight = 0.0
        curve = Series()
        curve.steps, curve.gaps = self.steps[:], self.gaps[:]
        append = curve.values.append
        for value in self.values:
            if math.isfinite(value):
                average = keep * average + (1 - keep) * value
                weight = keep * weight + (1 - keep)
                append(average / weight)
            else:
                append(value)
        return curve

    def columns(self, first: float, last: float, count: int) -> list[Column]:
        """The curve between the steps `first` and `last` as at most `count` pixel columns."""
        if count < 1 or not self.steps or last < first:
            return []
        width = (last - first) / max(1, count - 1) or 1.0
        found: list[Column] = []
        start = bisect_left(self.steps, first - width / 2)
        before = None
        for index in range(count):
            end = bisect_left(self.steps, first + (index + 0.5) * width, start)
            if end > start:
                column = self._column(index, start, end, before)
                if column is not None:
                    found.append(column)
                    before = self._last_finite(start, end)
                start = end
        return found

    def _column(self, index: int, start: int, end: int, before: int | None) -> Column | None:
        values = self.values[start:end]
        opening = self.steps[start]
        if self._has_gap(opening, self.steps[end - 1]):
            finite = [
                (s, v)
                for s, v in zip(self.steps[start:end], values, strict=True)
                if math.isfinite(v)
            ]
            if not finite:
                return None
            opening = finite[0][0]
            values = array("d", (value for _, value in finite))
        joined = before is not None and not self._has_gap(before, opening)
        return Column(index, values[0], values[-1], min(values), max(values), joined)

    def _last_finite(self, start: int, end: int) -> int:
        index = end - 1
        while index > start and not math.isfinite(self.values[index]):
            index -= 1
        return self.steps[index]

    def _has_gap(self, first: int, last: int) -> bool:
        position = bisect_left(self.gaps, first)
        return position < len(self.gaps) and self.gaps[position] <= last


def as_number(value: Any) -> float:
    """A float from what JSON holds; what is no number is NaN, never 0."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
