"""Choosing another method for one model: each priced for the data and the memory at hand."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from core.methods import METHODS
from core.planning.candidates import Candidate
from core.planning.search import with_method
from core.text import printable
from core.units import bytes_text
from tui.widgets.line_table import Column, LineTable, Row
from tui.widgets.plan_lines import about, fits_text

COLUMNS = (
    Column("Method", 11),
    Column("What is trained", 16, grow=1),
    Column("Peak", 8, right=True),
    Column("Fits", 5),
    Column("Time", 7, right=True),
)


class PickMethodScreen(ModalScreen[Candidate]):
    """Ends with the candidate of the chosen method, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,M", "dismiss(None)", "Cancel"),
    ]

    def __init__(self, candidate: Candidate) -> None:
        super().__init__(classes="dialogue")
        self._model = candidate.model.id
        self._now = candidate.method
        self._offers = [
            candidate if method == candidate.method else with_method(candidate, method)
            for method in METHODS
        ]

    def compose(self) -> ComposeResult:
        name = printable(self._model, single_line=True)
        with Vertical(classes="frame"):
            yield Static(Content.styled(f"{name} by which method?", "bold"))
            yield LineTable(COLUMNS, id="methods")
            yield Static("", id="about")
            yield Static(
                Content.assemble(
                    ("⏎", "bold $accent"), " choose   ", ("↑↓", "bold $accent"), " list   ",
                    ("Esc", "bold $accent"), " leave it",
                ),
                classes="muted",
            )  # fmt: skip

    def on_mount(self) -> None:
        table = self.query_one(LineTable)
        table.show_rows([method_row(one) for one in self._offers], list(METHODS).index(self._now))
        table.focus()

    @on(LineTable.Highlighted)
    def _highlighted(self, event: LineTable.Highlighted) -> None:
        method = METHODS[self._offers[event.index].method]
        merges = "" if method.merges else " It cannot be merged into a plain model."
        text = f"{method.title}: {method.about}.{merges}"
        self.query_one("#about", Static).update(Content.styled(text, "$text-muted"))

    @on(LineTable.Opened)
    def _chosen(self, event: LineTable.Opened) -> None:
        self.dismiss(self._offers[event.index])


def method_row(candidate: Candidate) -> Row:
    """A method with what it takes."""
    method = METHODS[candidate.method]
    return (
        method.name,
        Content.styled(method.about, "$text-muted"),
        bytes_text(candidate.prediction.peak),
        fits_text(candidate.fits),
        about(candidate.seconds),
    )
