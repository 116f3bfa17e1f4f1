"""Bars and sparklines made of characters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from textual.content import Content

_LEVELS = "▁▂▃▄▅▆▇"  # no full block: lines of them would run into one another


def bar(fraction: float | None, width: int) -> Content:
    """A thin progress bar in half-character steps; None (unknown) leaves it empty."""
    halves = 0 if fraction is None else round(max(0.0, min(1.0, fraction)) * width * 2)
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    return Content.assemble((done, "$accent"), ("─" * (width - len(done)), "$border"))


def spark(values: Sequence[float | None], top: float, width: int) -> str:
    """The last `width` values as blocks, 0 to `top`; a blank where nothing was read."""
    recent = list(values)[-width:]
    return "".join(_block(value, top) for value in recent).rjust(width)


def _block(value: float | None, top: float) -> str:
    if value is None or math.isnan(value) or top <= 0:
        return " "
    return _LEVELS[max(0, min(6, math.floor(value / top * 7)))]
