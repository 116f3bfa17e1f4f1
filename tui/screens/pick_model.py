"""Choosing a model by typing a part of its name, or any hub id or folder in full."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from core.models.catalogue import ModelCard, load_catalogue
from core.text import printable
from core.units import parameters_text
from tui.widgets.line_input import LineInput
from tui.widgets.line_table import Column, LineTable, Row

COLUMNS = (
    Column("Model", 24, grow=1),
    Column("Size", 6, right=True),
    Column("Here", 5),
    Column("Licence", 14, needs=64),
)


class PickModelScreen(ModalScreen[str]):
    """Ends with the model's id, or None when nothing was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("down", "to_list", "To the list", show=False),
    ]

    def __init__(self, question: str, first: list[ModelCard]) -> None:
        super().__init__(classes="dialogue")
        self._question = question
        known = {card.id for card in first}
        self._cards = [*first, *(card for card in load_catalogue() if card.id not in known)]
        self._shown: list[ModelCard] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="frame"):
            yield Static(Content.styled(self._question, "bold"))
            yield LineInput("part of a name, a hub id, or a folder", id="name")
            yield LineTable(COLUMNS, id="models")
            yield Static(
                Content.assemble(
                    ("⏎", "bold $accent"), " choose   ", ("↑↓", "bold $accent"), " list   ",
                    ("Esc", "bold $accent"), " leave it",
                ),
                classes="muted",
            )  # fmt: skip

    def on_mount(self) -> None:
        self._show("")

    def action_to_list(self) -> None:
        self.query_one(LineTable).focus()

    @on(LineInput.Left)
    def _left(self) -> None:
        self.dismiss(None)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._show(event.value)

    @on(Input.Submitted)
    def _typed(self, event: Input.Submitted) -> None:
        """What is typed counts as it is when no model of the list has it in its name."""
        typed = event.value.strip()
        self.dismiss(self._shown[0].id if self._shown else typed or None)

    @on(LineTable.Opened)
    def _chosen(self, event: LineTable.Opened) -> None:
        self.dismiss(self._shown[event.index].id)

    def _show(self, typed: str) -> None:
        words = typed.lower().split()
        self._shown = [c for c in self._cards if all(word in c.id.lower() for word in words)]
        self.query_one(LineTable).show_rows([model_row(card) for card in self._shown], 0)


def model_row(card: ModelCard) -> Row:
    """A model as a line of the list."""
    return (
        printable(card.id, single_line=True),
        parameters_text(card.shape.parameters),
        Content.styled("✓ yes", "$success") if card.cached else Content.styled("no", "$text-muted"),
        printable(card.licence or "", single_line=True),
    )
