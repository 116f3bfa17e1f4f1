"""A conversation that grows: answers stream in, alone or side by side with the base's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Resize
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from core.text import printable

GUTTER = 7
COLUMN_GAP = " │ "


@dataclass(slots=True)
class Entry:
    """A turn. An answer has a text and a closing line for each model that spoke."""

    kind: Literal["you", "answer", "note"]
    texts: dict[str, str] = field(default_factory=dict)
    closings: dict[str, Content] = field(default_factory=dict)

    def lines(self, width: int) -> list[Content]:
        """The entry wrapped to `width`, with an empty line after it."""
        if self.kind == "note":
            return [*_wrapped(self.texts["note"], width, "$foreground-muted"), Content("")]
        if self.kind == "you":
            return [*_labelled("you", _wrapped(self.texts["you"], width - GUTTER, "bold")), _EMPTY]
        if len(self.texts) > 1:
            return [*self._side_by_side(width), _EMPTY]
        who = next(iter(self.texts), "tuned")
        return [*_labelled(who, self._column(who, width - GUTTER)), _EMPTY]

    def _column(self, who: str, width: int) -> list[Content]:
        lines = _wrapped(self.texts.get(who, ""), width)
        closing = self.closings.get(who)
        return lines if closing is None else [*lines, *closing.wrap(max(1, width))]

    def _side_by_side(self, width: int) -> list[Content]:
        each = (width - len(COLUMN_GAP)) // 2
        columns = [self._column(who, each) for who in ("base", "tuned")]
        heads = [Content.styled(who, "bold $foreground-muted") for who in ("base", "tuned")]
        left, right = ([head, *column] for head, column in zip(heads, columns, strict=True))
        rows = max(len(left), len(right))
        left += [_EMPTY] * (rows - len(left))
        right += [_EMPTY] * (rows - len(right))
        return [
            Content.assemble(_padded(one, each), (COLUMN_GAP, "$foreground-disabled"), other)
            for one, other in zip(left, right, strict=True)
        ]


_EMPTY = Content("")


class Conversation(ScrollView, can_focus=True):
    """Entries from top to bottom. It follows the end unless one has scrolled up.

    Only the last entry changes; of it only the lines that differ are repainted.
    """

    DEFAULT_CSS = """
    Conversation { height: 1fr; overflow-x: hidden; overflow-y: auto;
                   scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "scroll_up", "Up", show=False),
        Binding("down,j", "scroll_down", "Down", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._entries: list[Entry] = []
        self._lines: list[Content] = []
        self._last_start = 0
        self._width = 0
        self._following = True

    @property
    def plain(self) -> str:
        """All that it shows, without styles."""
        return "\n".join(line.plain for line in self._lines)

    def show(self, entries: list[Entry]) -> None:
        """Show these entries from now on; the list may grow and is then told by `grew`."""
        self._entries = entries
        self._wrap_all()
        self._following = True
        self.scroll_end(animate=False, immediate=True, force=True)

    def grew(self, *, new: bool = False) -> None:
        """The last entry has changed, or with `new` come into being."""
        self._following = self._following or new
        start = len(self._lines) if new else self._last_start
        old = self._lines[start:]
        tail = self._entries[-1].lines(self._width) if self._width else []
        self._lines[start:] = tail
        self._last_start = start
        if len(old) != len(tail):
            self.virtual_size = Size(self._width, len(self._lines))
        if self._following:
            self.scroll_end(animate=False, immediate=True, force=True)
        self._repaint(start, old, tail)

    def _repaint(self, start: int, old: list[Content], new: list[Content]) -> None:
        first = round(self.scroll_offset.y)
        for index in range(max(len(old), len(new))):
            same = index < len(old) and index < len(new) and new[index].is_same(old[index])
            y = start + index - first
            if not same and 0 <= y < self.size.height:
                self.refresh(Region(0, y, self.size.width, 1))

    def _wrap_all(self) -> None:
        self._width = self.scrollable_content_region.width
        self._lines = []
        for entry in self._entries:
            self._last_start = len(self._lines)
            self._lines += entry.lines(self._width)
        self.virtual_size = Size(self._width, len(self._lines))
        self.refresh()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Whether the end is followed is decided by scrolling, not by what grows or shrinks."""
        super().watch_scroll_y(old_value, new_value)
        self._following = new_value >= self.max_scroll_y - 1

    def on_resize(self, event: Resize) -> None:
        if self.scrollable_content_region.width != self._width:
            self._wrap_all()
        if self._following:
            self.scroll_end(animate=False, immediate=True, force=True)

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index = y + round(self.scroll_offset.y)
        if index >= len(self._lines) or width <= 0:
            return Strip([Segment(" " * width, self.rich_style)])
        line = self._lines[index].truncate(width)
        return Visual.to_strips(self, line, width, 1, self.visual_style, pad=True)[0]


def _wrapped(text: str, width: int, style: str = "") -> list[Content]:
    """Untrusted text as lines of at most `width` cells."""
    content = Content.styled(printable(text).rstrip("\n"), style)
    return content.wrap(max(1, width)) if content.plain else [Content("")]


def _labelled(label: str, lines: list[Content]) -> list[Content]:
    style = "bold $accent" if label == "you" else "bold $primary"
    heads = [Content.styled(f"{label:<{GUTTER}}", style)]
    heads += [Content(" " * GUTTER)] * (len(lines) - 1)
    return [head + line for head, line in zip(heads, lines, strict=True)]


def _padded(line: Content, width: int) -> Content:
    return line.pad_right(max(0, width - line.cell_length))
