"""A line to type in: no box, no blinking, and its two keys in the bar."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Input


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

    def action_leave(self) -> None:
        self.post_message(self.Left(self))
