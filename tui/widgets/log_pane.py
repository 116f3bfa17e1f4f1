"""The worker's log: its last rows, or all of the screen to read back in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.strip import Strip

from core.text import clip, printable
from tui.widgets.painted import Painted


class LogPane(Painted):
    """The last lines of a log. It follows the end until one scrolls up, and then stands still."""

    DEFAULT_CSS = """
    LogPane { color: $foreground-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_by(1)", "Back", show=False),
        Binding("down,j", "scroll_by(-1)", "Forward", show=False),
        Binding("pageup", "scroll_page(1)", "Page back", show=False),
        Binding("pagedown", "scroll_page(-1)", "Page forward", show=False),
        Binding("home", "scroll_by(1000000)", "Start", show=False),
        Binding("end", "scroll_by(-1000000)", "End", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: tuple[str, ...] = ()
        self._above_end = 0

    def show(self, lines: Sequence[str]) -> None:
        """Show these untrusted lines; a reader who has scrolled up keeps their place."""
        lines = tuple(lines)
        if self._above_end and lines and self._lines:
            self._above_end += _added(self._lines, lines)
        self._lines = lines
        self.redraw()

    def follow(self) -> None:
        """Go back to the end."""
        self._above_end = 0
        self.redraw()

    def action_scroll_by(self, rows: int) -> None:
        most = max(0, len(self._lines) - self.size.height)
        self._above_end = max(0, min(most, self._above_end + rows))
        self.redraw()

    def action_scroll_page(self, pages: int) -> None:
        self.action_scroll_by(pages * max(1, self.size.height - 1))

    def draw(self, size: Size) -> list[Strip]:
        style = self.visual_style.rich_style
        end = len(self._lines) - self._above_end
        shown = self._lines[max(0, end - size.height) : end]
        texts = [clip(printable(line, single_line=True), size.width) for line in shown]
        return [
            Strip([Segment(text, style)]).adjust_cell_length(size.width, style) for text in texts
        ]


def _added(before: tuple[str, ...], after: tuple[str, ...]) -> int:
    """How many lines have come since: the tail may also have lost its head."""
    for count in range(min(200, len(after))):
        if after[len(after) - count - 1] == before[-1]:
            return count
    return 0
