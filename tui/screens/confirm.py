"""A question before what cannot be undone. It names the thing that it is about."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static


class ConfirmScreen(ModalScreen[bool]):
    """`y` does it; Esc, `n` or `q` leaves all as it is. Enter does nothing, since it slips."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("y", "dismiss(True)", "Do it"),
        ("escape,n,q", "dismiss(False)", "Leave it"),
    ]

    def __init__(self, question: str, detail: str, verb: str) -> None:
        super().__init__(classes="dialogue")
        self._question, self._detail, self._verb = question, detail, verb

    def compose(self) -> ComposeResult:
        with Vertical(classes="frame"):
            yield Static(Content.styled(self._question, "bold"))
            yield Static(Content(self._detail), classes="muted")
            yield Static("")
            yield Static(
                Content.assemble(
                    ("  y", "bold $accent"), f"  {self._verb}   ", ("Esc", "bold $accent"), "  no"
                )
            )
