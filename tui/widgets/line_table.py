"""A table of one-line rows that draws only what is in view, so that a million rows scroll.

It repaints only the lines that changed, which is what a table of live runs costs on the wire.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.content import Content, Span
from textual.events import Click, Focus, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from tui.theme import ON_CURSOR
from tui.widgets.painted import set_height

REVERSED = Style(reverse=True)
COLOUR = re.compile(rf"\$({'|'.join(ON_CURSOR)})\b")
GAP = 2
MARK_WIDTH = 2
MARK = "▸ "


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `grow` is its share of spare room, up to `most` cells; `needs` is the least
    width of the table at which it is shown at all."""

    title: str
    width: int
    grow: int = 0
    most: int = 10_000
    right: bool = False
    needs: int = 0


Row = Sequence[Content | str]


class LineTable(ScrollView, can_focus=True):
    """Rows under a header, one of them highlighted. Enter opens it."""

    DEFAULT_CSS = """
    LineTable { height: 1fr; overflow-x: hidden; overflow-y: auto; }
    LineTable > .table--header { color: $text-muted; }
    LineTable > .table--cursor { background: $block-cursor-blurred-background; }
    LineTable:focus > .table--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold;
    }
    LineTable:ansi > .table--cursor, LineTable:ansi:focus > .table--cursor {
        background: ansi_default; color: ansi_default; text-style: reverse;
    }
    LineTable:ansi:focus > .table--cursor { text-style: bold reverse; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--header", "table--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Open", key_display="⏎"),
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup,ctrl+b", "page(-1)", "Page up", show=False),
        Binding("pagedown,ctrl+f", "page(1)", "Page down", show=False),
        Binding("home,g", "top", "First row", show=False),
        Binding("end,G", "bottom", "Last row", show=False),
    ]

    cursor: reactive[int] = reactive(0, repaint=False)
    """The index of the highlighted row."""

    class Highlighted(Message):
        """The highlight moved to another row, or the row in it changed."""

        def __init__(self, table: LineTable, index: int) -> None:
            super().__init__()
            self.table, self.index = table, index

        @property
        def control(self) -> LineTable:
            return self.table

    class Opened(Message):
        """Enter, or a second click, on a row."""

        def __init__(self, table: LineTable, index: int) -> None:
            super().__init__()
            self.table, self.index = table, index

        @property
        def control(self) -> LineTable:
            return self.table

    def __init__(self, columns: Sequence[Column], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.columns = tuple(columns)
        self._row: Callable[[int], Row | None] = lambda index: None
        self._kept: list[Row] = []
        self.count = 0

    # What it shows

    def show_rows(self, rows: Sequence[Row], cursor: int | None = None) -> None:
        """Show these rows, repainting the lines that differ from what is shown."""
        old, self._kept = self._kept, list(rows)
        self._row = self._kept.__getitem__
        changed = [i for i, row in enumerate(rows) if i >= len(old) or not _same(row, old[i])]
        self._resize_to(len(rows))
        if cursor is not None:
            self.cursor = cursor
        if len(old) != len(rows):
            self.refresh()
        else:
            self.refresh_rows(changed)

    def show_source(self, count: int, row: Callable[[int], Row | None]) -> None:
        """Show `count` rows that are asked for when they come into view.

        `row(index)` answers None for a row that is not known yet; `refresh_rows` repaints it.
        """
        self._kept = []
        self._row = row
        self._resize_to(count)
        self.refresh()

    def grow_to(self, count: int) -> None:
        """More rows at the end of the source; those in view stay as they are drawn."""
        before = self.count
        self._resize_to(count)
        self.refresh_rows([index for index in self.in_view if index >= before])

    def refresh_rows(self, indices: Sequence[int]) -> None:
        """Repaint these rows, where they are in view."""
        first = round(self.scroll_y)
        lines = [i - first + 1 for i in indices if 0 <= i - first < self.page_height]
        if lines:
            self.refresh(*(Region(0, y, self.line_width, 1) for y in lines))

    @property
    def line_width(self) -> int:
        """The cells of a line, without the scrollbar."""
        return self.scrollable_content_region.width

    @property
    def page_height(self) -> int:
        """How many rows are in view at once."""
        return max(1, self.size.height - 1)

    @property
    def in_view(self) -> range:
        """The indices of the rows in view."""
        first = round(self.scroll_y)
        return range(first, min(self.count, first + self.page_height))

    def _resize_to(self, count: int) -> None:
        if count != self.count:
            self.count = count
            set_height(self, self.line_width, count + 1)
            self.cursor = self.validate_cursor(self.cursor)

    # The cursor

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, self.count - 1))

    def watch_cursor(self, old: int, new: int) -> None:
        self.refresh_rows([old, new])
        self._bring_into_view()
        self.post_message(self.Highlighted(self, new))

    def _bring_into_view(self) -> None:
        first = round(self.scroll_y)
        if self.cursor < first:
            self.scroll_to(y=self.cursor, animate=False, immediate=True)
        elif self.cursor >= first + self.page_height:
            top = self.cursor - self.page_height + 1
            self.scroll_to(y=top, animate=False, immediate=True)

    def on_resize(self, event: Resize) -> None:
        self.virtual_size = Size(self.line_width, self.count + 1)
        self._bring_into_view()

    def on_focus(self, event: Focus) -> None:
        self.refresh_rows([self.cursor])

    on_blur = on_focus

    def action_move(self, step: int) -> None:
        self.cursor += step

    def action_page(self, pages: int) -> None:
        self.cursor += pages * self.page_height

    def action_top(self) -> None:
        self.cursor = 0

    def action_bottom(self) -> None:
        self.cursor = self.count - 1

    def action_open(self) -> None:
        if self.count:
            self.post_message(self.Opened(self, self.cursor))

    def on_click(self, event: Click) -> None:
        index = event.y - 1 + round(self.scroll_y)
        if event.y == 0 or index >= self.count:
            return
        if index == self.cursor:
            self.action_open()
        self.cursor = index

    # Drawing

    def render_line(self, y: int) -> Strip:
        width = self.line_width
        if width <= 0:  # squeezed out by a tiny terminal
            return Strip.blank(0)
        if y == 0:
            titles: list[Content | str] = [column.title for column in self.columns]
            return self._strip(self._line("  ", titles, width), "table--header")
        index = y - 1 + round(self.scroll_y)
        if index >= self.count:
            return Strip.blank(width, self.rich_style)
        row = self._row(index)
        here = index == self.cursor
        mark = MARK if here and self.has_focus else "  "
        line = self._line(
            mark, ["…", *[""] * (len(self.columns) - 1)] if row is None else row, width
        )
        return self._strip(on_cursor(line), "table--cursor") if here else self._strip(line)

    def _line(self, mark: str, row: Row, width: int) -> Content:
        cells = []
        widths = column_widths(self.columns, width - 1)
        for column, cell, room in zip(self.columns, row, widths, strict=True):
            if room:
                content = (Content(cell) if isinstance(cell, str) else cell).truncate(
                    room, ellipsis=True
                )
                spare = room - content.cell_length
                cells.append(content.pad_left(spare) if column.right else content.pad_right(spare))
        return Content.styled(mark, "$accent") + Content(" " * GAP).join(cells)

    def _strip(self, line: Content, *component: str) -> Strip:
        width = self.line_width
        style = self.get_visual_style(*component) if component else self.visual_style
        line = line.truncate(width, pad=True)
        strip = Visual.to_strips(self, line, width, 1, style, pad=True)[0]
        if any(self.get_component_styles(name).text_style.reverse for name in component):
            return strip.apply_style(REVERSED)  # which a visual style leaves out
        return strip


def on_cursor(line: Content) -> Content:
    """The line with the colours that can be read on a highlighted row."""
    spans = [
        Span(start, end, COLOUR.sub(r"$cursor-\1", style) if isinstance(style, str) else style)
        for start, end, style in line.spans
    ]
    return Content(line.plain, spans)


@lru_cache(64)
def column_widths(columns: tuple[Column, ...], width: int) -> tuple[int, ...]:
    """The cells that each column gets; 0 for a column that is not shown."""
    widths = [column.width if width >= column.needs else 0 for column in columns]
    shown = sum(1 for cells in widths if cells)
    spare = width - MARK_WIDTH - sum(widths) - GAP * max(0, shown - 1)
    hungry = [i for i, column in enumerate(columns) if widths[i] for _ in range(column.grow)]
    while spare > 0 and (hungry := [i for i in hungry if widths[i] < columns[i].most]):
        for i in hungry:
            if spare > 0 and widths[i] < columns[i].most:
                widths[i] += 1
                spare -= 1
    return tuple(widths)


def _same(one: Row, other: Row) -> bool:
    return one is other or (
        len(one) == len(other)
        and all(_content(a).is_same(_content(b)) for a, b in zip(one, other, strict=True))
    )


def _content(cell: Content | str) -> Content:
    return Content(cell) if isinstance(cell, str) else cell
