"""The one line on the Plan screen in which something is typed: what, is asked each time."""

from __future__ import annotations

from typing import Literal

from core.models.filtering import HELP
from tui.widgets.line_input import LineInput

Question = Literal["price", "name", "words"]
ASKED: dict[Question, str] = {
    "price": "dollars per hour, for the cost: 2.49 (nothing forgets it)",
    "name": "a name for the run",
    "words": HELP,
}


class PlanEntry(LineInput):
    """Hidden until something is asked."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.question: Question = "name"

    def ask(self, question: Question, value: str = "") -> None:
        """Take the focus and wait for an answer."""
        self.question = question
        self.placeholder, self.value, self.display = ASKED[question], value, True
        self.cursor_position = len(value)
        self.focus()
