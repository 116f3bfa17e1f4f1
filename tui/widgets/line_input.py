"""A line to type in: no box, no blinking, and its two keys in the bar."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input

from core.text import printable


def _drawn(value: str) -> str:
    """A character for each, none of which a terminal would obey."""
    return "".join([printable(char, single_line=True) for char in value])


class LineInput(Input):
    """Enter takes what is typed, Escape leaves the line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Take it", key_display="⏎"),
        Binding("escape", "leave", "Back", key_display="esc"),
    ]

    class Left(Message):
        """Escape: the user wants out of the line."""

        def __init__(self, line: LineInput) -> None:
            super().__init__()
            self.line = line

        @property
        def control(self) -> LineInput:
            return self.line

    def __init__(self, placeholder: str = "", *, id: str) -> None:
        super().__init__(placeholder=placeholder, id=id, classes="line", select_on_focus=False)
        self.cursor_blink = False  # a blinking cursor costs 2.6 KB/s over SSH

    @property
    def _value(self) -> Text:
        """The value as it is drawn: it may be the name of somebody else's file or column."""
        return Text(_drawn(self.value), no_wrap=True, overflow="ignore", end="")

    def _position_to_cell(self, position: int) -> int:
        return cell_len(_drawn(self.value[:position]))

    def action_leave(self) -> None:
        self.post_message(self.Left(self))
