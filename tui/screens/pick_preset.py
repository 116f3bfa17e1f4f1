"""Choosing a preset: each priced for the data and the memory at hand, one's own first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from core.data.examples import FormatName
from core.errors import UserError
from core.objectives import refusal
from core.planning.candidates import Basis, Candidate
from core.planning.presets import Preset, candidate_of, presets, with_data
from core.recipe import Recipe, load_recipe
from core.text import printable
from core.units import MISSING, bytes_text
from tui.threads import hand_over
from tui.widgets.line_input import LineInput
from tui.widgets.line_table import Column, LineTable, Row
from tui.widgets.plan_lines import fits_text

COLUMNS = (
    Column("Preset", 14),
    Column("Model", 14, grow=1),
    Column("Method", 6),
    Column("Peak", 8, right=True),
    Column("Fits", 10),
)


@dataclass(frozen=True, slots=True)
class Offer:
    """A preset with the data at hand; `candidate` is None where its model is not known. `suits`:
    whether its objective can learn from such rows."""

    preset: Preset
    recipe: Recipe
    candidate: Candidate | None
    suits: bool


class PickPresetScreen(ModalScreen[Recipe]):
    """Ends with the preset's recipe for the data at hand, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("down", "to_list", "To the list", show=False),
    ]

    def __init__(self, basis: Basis, like: Recipe, rows: FormatName) -> None:
        super().__init__(classes="dialogue")
        self._basis, self._like, self._rows = basis, like, rows
        self._offers: list[Offer] = []
        self._shown: list[Offer] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="frame"):
            yield Static(Content.styled("Begin with which preset?", "bold"))
            yield LineInput("part of a name, a model or a method", id="name")
            yield LineTable(COLUMNS, id="presets")
            yield Static("", id="unread", classes="muted")
            yield Static(
                Content.assemble(
                    ("⏎", "bold $accent"), " its recipe   ", ("↑↓", "bold $accent"), " list   ",
                    ("Esc", "bold $accent"), " leave it",
                ),
                classes="muted",
            )  # fmt: skip

    def on_mount(self) -> None:
        self._read()

    @work(thread=True, exclusive=True, group="presets")
    def _read(self) -> None:
        """Some fifty files: off the event loop."""
        offers, problems = [], []
        for preset in presets():
            try:
                recipe = with_data(load_recipe(preset.path), self._like)
                offers.append(Offer(preset, recipe, self._priced(recipe), self._suits(recipe)))
            except UserError as error:
                problems.append(error.message)
        offers.sort(key=lambda offer: not offer.suits)  # what cannot be used comes last
        hand_over(self, self._receive, offers, problems)

    def _priced(self, recipe: Recipe) -> Candidate | None:
        try:
            return candidate_of(recipe, self._basis)
        except UserError:
            return None  # a model that only its owner's machine knows

    def _suits(self, recipe: Recipe) -> bool:
        return self._rows == "unknown" or not refusal(recipe.objective.name, self._rows)

    def _receive(self, offers: list[Offer], problems: list[str]) -> None:
        self._offers = offers
        self.query_one("#unread", Static).update(Content(printable("\n".join(problems[:2]))))
        self._show(self.query_one("#name", LineInput).value)

    def action_to_list(self) -> None:
        self.query_one(LineTable).focus()

    @on(LineInput.Left)
    def _left(self) -> None:
        self.dismiss(None)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        self._show(event.value)

    @on(Input.Submitted)
    def _first(self) -> None:
        if self._shown:
            self._take(self._shown[0])

    @on(LineTable.Opened)
    def _chosen(self, event: LineTable.Opened) -> None:
        self._take(self._shown[event.index])

    def _take(self, offer: Offer) -> None:
        why = refusal(offer.recipe.objective.name, self._rows)
        if offer.suits or why is None:
            self.dismiss(offer.recipe)
        else:
            self.notify(f"{why}.", markup=False)

    def _show(self, typed: str) -> None:
        words = typed.lower().split()
        self._shown = [one for one in self._offers if all(word in _text(one) for word in words)]
        self.query_one(LineTable).show_rows([_row(one) for one in self._shown], 0)


def _text(offer: Offer) -> str:
    return f"{offer.preset.name} {offer.recipe.model.id} {offer.recipe.method.name}".lower()


def _row(offer: Offer) -> Row:
    """Its name, what it trains, and whether that fits here."""
    candidate = offer.candidate
    name = printable(offer.preset.name, single_line=True)
    model = offer.recipe.model.id.rstrip("/").rsplit("/", 1)[-1]
    return (
        Content.styled(name, "bold") if offer.preset.own else name,
        printable(model, single_line=True),
        offer.recipe.method.name,
        bytes_text(candidate.prediction.peak if candidate else None),
        _verdict(offer),
    )


def _verdict(offer: Offer) -> Content | str:
    if not offer.suits:
        return Content.styled("other rows", "$text-muted")
    return MISSING if offer.candidate is None else fits_text(offer.candidate.fits)
