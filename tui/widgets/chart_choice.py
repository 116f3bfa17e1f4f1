"""What the dashboard's chart shows of a run: which curve, which steps, on which axis."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from textual.content import Content

from core.runs.history import RunHistory
from core.runs.series import Series
from core.units import MISSING, count_text, number_text
from tui.widgets.chart import MARK, Curve
from tui.widgets.phrases import spread
from tui.widgets.readings import small_text

METRICS = ("loss", "learning rate", "grad norm", "tokens/s")
ZOOMS = (None, 1000, 200, 50)


@dataclass(frozen=True, slots=True)
class ChartChoice:
    """The chart's toggles. `zoom` is the number of last steps; None shows all."""

    metric: str = "loss"
    log: bool = False
    smooth: bool = False
    zoom: int | None = None

    def toggled(self, what: str) -> ChartChoice:
        """With the axis (`log`) or the smoothing (`smooth`) switched."""
        if what == "log":
            return replace(self, log=not self.log)
        return replace(self, smooth=not self.smooth)

    def next_metric(self) -> ChartChoice:
        following = METRICS[(METRICS.index(self.metric) + 1) % len(METRICS)]
        return replace(self, metric=following)

    def next_zoom(self, step: int) -> ChartChoice:
        """The next closer look that shows less than there is; after the closest, all again."""
        following = ZOOMS[ZOOMS.index(self.zoom) + 1 :]
        return replace(self, zoom=next((z for z in following if z and z < step), None))

    def steps(self, history: RunHistory) -> tuple[float, float]:
        """The first and last step of the x axis.

        A young run fills at least half of the width: the axis ends at its total halved as
        often as it may be, so that it changes a few times and not with each step.
        """
        step = max(history.step, 1)
        if self.zoom and step > self.zoom:
            return step - self.zoom, step
        end = float(history.total_steps or 0)
        if end < step:
            return 0, step
        while end / 2 >= step and end / 2 >= 10:
            end /= 2
        return 0, end

    def curves(self, history: RunHistory) -> list[Curve]:
        """The curves to draw, those behind first; copies, since the history goes on growing."""
        series = series_of(history, self.metric).copy()
        curves = [Curve(series)]
        if self.smooth and len(series) > 2:
            curves = [Curve(series, "faint"), Curve(series.smoothed(span(series)))]
        if self.metric == "loss" and history.eval_loss:
            curves.append(Curve(history.eval_loss.copy(), "marked"))
        return curves

    def legend(self, history: RunHistory, width: int) -> Content:
        """The names of the lines with their latest values, and the keys that change the view."""
        return spread(self._names(history), self._keys(), width)

    def _names(self, history: RunHistory) -> Content:
        last = series_of(history, self.metric).last
        title = Content.styled(f"{self.metric}  ", "bold")
        if self.metric != "loss":
            return Content.assemble(title, (value_text(self.metric, last), "$primary"))
        parts = Content.assemble(title, (f"─ train {number_text(last, 4)}", "$primary"))
        if history.eval_loss:
            shown = number_text(history.eval_loss.last, 4)
            parts += Content.styled(f"  {MARK} eval {shown}", "$accent")
        return parts

    def _keys(self) -> Content:
        words = [
            ("y", "log" if self.log else "linear"),
            ("m", "smooth" if self.smooth else "raw"),
            ("z", f"last {self.zoom}" if self.zoom else "all"),
            ("v", "curve"),
        ]
        return (
            Content("  ")
            .join(Content.assemble((key, "$accent"), f" {word}") for key, word in words)
            .stylize_before("$foreground-muted")
        )


def series_of(history: RunHistory, metric: str) -> Series:
    return {
        "loss": history.loss,
        "learning rate": history.learning_rate,
        "grad norm": history.grad_norm,
        "tokens/s": history.tokens_per_s,
    }[metric]


def value_text(metric: str, value: float | None) -> str:
    """The latest value of a curve as its legend shows it."""
    if value is None:
        return MISSING
    if metric == "learning rate":
        return small_text(value)
    return count_text(value) if metric == "tokens/s" else number_text(value, 3)


def span(series: Series) -> float:
    """Points that the smoothing averages over: a fortieth of the curve, at least nine."""
    return max(9, math.ceil(len(series) / 40))
