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
from core.models.families import targeted
from core.models.filtering import matches
from core.text import printable
from core.units import parameters_text
from tui.widgets.line_input import LineInput
from tui.widgets.line_table import Column, LineTable, Row
from tui.widgets.painted import LiveLines

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
            yield LineInput(
                "part of a name, <8b, apache, german, here; a hub id; a folder", id="name"
            )
            yield LineTable(COLUMNS, id="models")
            yield LiveLines(id="card")
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

    @on(LineTable.Highlighted)
    def _highlighted(self, event: LineTable.Highlighted) -> None:
        self._describe(event.index)

    def _show(self, typed: str) -> None:
        self._shown = [card for card in self._cards if matches(card, typed)]
        self.query_one(LineTable).show_rows([model_row(card) for card in self._shown], 0)
        self._describe(0)

    def _describe(self, index: int) -> None:
        lines = self.query_one("#card", LiveLines)
        width = max(30, lines.size.width or 66)
        lines.show(card_lines(self._shown[index], width) if index < len(self._shown) else [])


def card_lines(card: ModelCard, width: int) -> list[Content]:
    """What is known of a model, in as many lines for each, so that nothing jumps."""
    allows = f": {card.allows}" if card.allows else ""
    context = f"{card.shape.context:,} tokens" if card.shape.context else "context not known"
    adapted = ", ".join(linear.name for linear in targeted(card.shape, "all-linear"))
    texts = (
        f"{card.good_for[:1].upper()}{card.good_for[1:]}",
        f"{card.licence or 'licence not known'}{allows}{', gated' if card.gated else ''}",
        f"{context}; {card.languages or 'languages not known'}; template {card.template or '–'}",
        f"adapts {adapted}",
    )
    lines = [Content(printable(text, single_line=True)) for text in texts]
    return [line.truncate(width, ellipsis=True).stylize("$text-muted") for line in lines]


def model_row(card: ModelCard) -> Row:
    """A model as a line of the list."""
    return (
        printable(card.id, single_line=True),
        parameters_text(card.shape.parameters),
        Content.styled("✓ yes", "$success") if card.cached else Content.styled("no", "$text-muted"),
        printable(card.licence or "", single_line=True),
    )
