"""How the app writes what recurs: a run's state, two ends of a line, a table of readings."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

PHASE_SYMBOLS = {
    "preparing": "◌",
    "running": "▶",
    "stopping": "◐",
    "stopped": "■",
    "finished": "✓",
    "failed": "✗",
}
PHASE_STYLES = {
    "preparing": "$foreground-muted",
    "running": "$accent",
    "stopping": "$warning",
    "stopped": "$foreground-muted",
    "finished": "$success",
    "failed": "$error",
}
Reading = tuple[str, str]
"""A label and a value with its unit."""


def phase_badge(phase: str) -> Content:
    """The state of a run as a symbol and a word, so that colour is never needed."""
    symbol = PHASE_SYMBOLS.get(phase, "?")
    return Content.styled(f"{symbol} {phase}", f"bold {PHASE_STYLES.get(phase, '')}")


def spread(left: Content, right: Content, width: int) -> Content:
    """`left` and `right` at the two ends of a line; `right` gives way where both do not fit."""
    gap = width - left.cell_length - right.cell_length
    if gap < 2 and width > 0:
        return left.truncate(width, ellipsis=True)
    return Content.assemble(left, " " * max(0, gap), right)


def reading(label: str, value: str, width: int) -> Content:
    """A label on the left, its value on the right."""
    gap = max(1, width - len(label) - len(value))
    return Content.assemble((label, "$foreground-muted"), " " * gap, value).truncate(width)


def table(readings: Sequence[Reading], width: int, columns: int) -> list[Content]:
    """Readings in columns, filled downwards; the values of a column end at one edge."""
    gutter = 3
    each = (width - gutter * (columns - 1)) // columns
    rows = -(-len(readings) // columns)
    lines = []
    for row in range(rows):
        cells = [reading(*pair, each) for pair in readings[row::rows]]
        lines.append(Content(" " * gutter).join(cells))
    return lines


def section(title: str, readings: Sequence[Reading], width: int) -> list[Content]:
    """Readings under a heading, one a line."""
    return [
        Content.styled(title, "bold $foreground-muted"),
        *(reading(label, value, width) for label, value in readings),
    ]
