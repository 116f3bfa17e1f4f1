"""Several lines to edit, drawn so that a terminal obeys none of them."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import TextArea

from core.text import printable


class TextEditor(TextArea):
    """The text stays as it is; of what a terminal would obey, a picture is drawn."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, show_line_numbers=True)
        self.cursor_blink = False

    def get_line(self, line_index: int) -> Text:
        """The line as it is drawn: as many characters as there are (tabs are widened later)."""
        line = super().get_line(line_index)
        line.plain = "".join(char if char == "\t" else printable(char) for char in line.plain)
        return line
