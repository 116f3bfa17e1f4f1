"""Widgets that paint their own lines and send only what has changed over the wire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.style import Style
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual
from textual.widget import Widget

Cells = list[tuple[str, Style | None]]


def set_height(view: ScrollView, width: int, height: int) -> None:
    """Give a view that scrolls this many lines. The screen is laid out only where the bar comes
    or goes: that costs as much as all else that a key does."""
    room = view.size.height
    if room and (view.virtual_size.height > room) == (height > room) and view.is_mounted:
        view.set_reactive(Widget.virtual_size, Size(width, height))
        view.vertical_scrollbar.window_virtual_size = height
    else:
        view.virtual_size = Size(width, height)


class Painted(Widget):
    """Draws its strips once per change of its content, and repaints the spans that differ.

    A dashboard redraws every second, but mostly the same characters: comparing costs
    microseconds here and saves kilobytes over SSH. Subclasses implement `draw`.
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self._strips: list[Strip] = []
        self._cells: list[Cells] = []
        self._drawn_size: Size | None = None

    def draw(self, size: Size) -> list[Strip]:
        """The lines of the widget, each as wide as `size`."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Draw again; repaint the spans that differ from what is on the screen."""
        if not self.is_mounted or not self.size:
            return
        strips = self.draw(self.size)
        cells = [_cells(strip) for strip in strips]
        changed = (
            list(_changed_spans(self._cells, cells)) if self._drawn_size == self.size else None
        )
        self._strips, self._cells, self._drawn_size = strips, cells, self.size
        if changed is None:
            self.refresh()
        elif changed:
            self.refresh(*changed)

    def on_resize(self) -> None:
        self.redraw()

    def notify_style_update(self) -> None:
        """A new theme or class: everything is drawn again."""
        super().notify_style_update()
        self._drawn_size = None
        self.call_after_refresh(self.redraw)

    def render_line(self, y: int) -> Strip:
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.size.width, self.visual_style.rich_style)


class LiveLines(Painted):
    """A few lines of styled text, replaced as a whole by `show`; it is as high as its lines."""

    DEFAULT_CSS = """
    LiveLines { height: auto; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(
        self,
        lines: Sequence[Content] = (),
        *,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._lines = tuple(lines)

    @property
    def lines(self) -> tuple[Content, ...]:
        """What it shows."""
        return self._lines

    @property
    def plain(self) -> str:
        """What it shows, without its styles."""
        return "\n".join(line.plain for line in self._lines)

    def show(self, lines: Iterable[Content]) -> None:
        """Show these lines instead."""
        lines = tuple(lines)
        grown = len(lines) != len(self._lines)
        self._lines = lines
        if grown:
            self.refresh(layout=True)
        self.redraw()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return len(self._lines)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return max((line.cell_length for line in self._lines), default=0)

    def draw(self, size: Size) -> list[Strip]:
        if not self._lines:
            return []
        visual = Content("\n").join(self._lines)
        return Visual.to_strips(self, visual, size.width, size.height, self.visual_style, pad=True)


def _cells(strip: Strip) -> Cells:
    """The strip cell by cell; the second half of a wide character is an empty cell."""
    cells: Cells = []
    for text, style, _ in strip:
        for char in text:
            cells.append((char, style))
            cells.extend([("", style)] * (cell_len(char) - 1))
    return cells


def _changed_spans(before: list[Cells], after: list[Cells]) -> Iterable[Region]:
    for y in range(max(len(before), len(after))):
        old = before[y] if y < len(before) else []
        new = after[y] if y < len(after) else []
        if old == new:
            continue
        width = max(len(old), len(new))
        if len(old) != len(new):
            yield Region(0, y, width, 1)
            continue
        differing = [x for x in range(width) if old[x] != new[x]]
        yield Region(differing[0], y, differing[-1] - differing[0] + 1, 1)
