"""The input of the chat: Enter sends, ctrl+j breaks the line, ↑ brings something to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea


class Prompt(TextArea):
    """A few lines of text. Digits and letters are typed here; Escape leaves it."""

    DEFAULT_CSS = """
    Prompt { height: auto; min-height: 1; max-height: 6; border: none; padding: 0 1;
             background: $surface; scrollbar-size-vertical: 1; }
    Prompt:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "Send", key_display="⏎"),
        Binding("escape", "leave", "Leave", key_display="esc"),
        Binding("up", "earlier", "Try one", key_display="↑"),
        Binding("down", "later", "Later", show=False),
        Binding("ctrl+j,shift+enter", "line_break", "New line", show=False),
        Binding("pageup", "page(-1)", "Scroll up", show=False),
        Binding("pagedown", "page(1)", "Scroll down", show=False),
    ]

    class Sent(Message):
        """Enter: `text` is to be answered."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Left(Message):
        """Escape."""

    class Paged(Message):
        """PageUp or PageDown: the conversation is to scroll."""

        def __init__(self, pages: int) -> None:
            super().__init__()
            self.pages = pages

    def __init__(self, *, id: str | None = None, placeholder: str = "") -> None:
        super().__init__(id=id, placeholder=placeholder, compact=True, highlight_cursor_line=False)
        self.cursor_blink = False
        self._offers: list[str] = []
        self._offered: int | None = None

    def offer(self, texts: Sequence[str]) -> None:
        """What ↑ brings, the first first."""
        self._offers = list(texts)
        self._offered = None

    def said(self, text: str) -> None:
        """Remember what was sent: ↑ brings it back first."""
        self._offers = [text, *(offer for offer in self._offers if offer != text)]
        self._offered = None
        self.clear()

    def on_key(self, event: Key) -> None:
        """Enter sends; to a text area it would be a character."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.action_send()

    def action_send(self) -> None:
        if self.text.strip():
            self.post_message(self.Sent(self.text.strip()))

    def action_leave(self) -> None:
        self.post_message(self.Left())

    def action_line_break(self) -> None:
        self.insert("\n")

    def action_page(self, pages: int) -> None:
        self.post_message(self.Paged(pages))

    def action_earlier(self) -> None:
        """Up a line within the text; from the first line the next offer."""
        if self.cursor_location[0] > 0:
            self.action_cursor_up()
        elif self._offers:
            self._bring(0 if self._offered is None else self._offered + 1)

    def action_later(self) -> None:
        if self.cursor_location[0] < self.document.line_count - 1:
            self.action_cursor_down()
        elif self._offered is not None:
            self._bring(self._offered - 1)

    def _bring(self, index: int) -> None:
        if index < 0:
            self._offered = None
            self.clear()
        elif index < len(self._offers):
            self._offered = index
            self.text = self._offers[index]
            self.move_cursor(self.document.end)
