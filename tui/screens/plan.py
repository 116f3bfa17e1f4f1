"""Plan: what fits in the memory that is free now, how long it takes, what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Input

from core.errors import UserError
from core.planning.candidates import Candidate, Plan
from core.planning.prices import parse_price, remember_price
from core.recipe import Recipe
from tui import plan_knobs
from tui.plan_session import Key, PlanSession, key_of
from tui.screens.place import Place
from tui.threads import hand_over
from tui.widgets.line_input import LineInput
from tui.widgets.line_table import LineTable
from tui.widgets.painted import LiveLines
from tui.widgets.plan_blocks import CandidateDetails, MemoryBar
from tui.widgets.plan_elsewhere import Elsewhere
from tui.widgets.plan_entry import PlanEntry
from tui.widgets.plan_head import basis_line, note_lines
from tui.widgets.plan_lines import COLUMNS, candidate_row
from tui.widgets.row_pane import Pane

if TYPE_CHECKING:
    from core.hardware.machine import Machine
    from tui.screens.recipe import Outcome

NO_DATA = "Open data first: 2 goes there."


class PlanTable(LineTable):
    """Enter starts the run of the highlighted row."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open", "Start", key_display="⏎", tooltip="Start this run")
    ]


class PlanScreen(Place):
    """Candidates in a table; the highlighted one explained, its knobs turned by keys."""

    PLACE = "plan"
    AUTO_FOCUS = ""  # Textual's choice may be a line that is not displayed
    CSS_PATH = "../styles/plan.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start the run", show=False),
        Binding("y", "recipe", "Recipe", tooltip="The exact recipe: read, edit, keep, start"),
        Binding("slash", "find", "Find", key_display="/", tooltip="Only some models"),
        Binding(
            "o", "elsewhere", "Other GPUs", tooltip="The same run on a rented GPU, at a service"
        ),
        Binding("left_square_bracket", "turn('length',-1)", "Length", key_display="[ ]"),
        Binding("right_square_bracket", "turn('length',1)", "Longer", key_display="]", show=False),
        Binding("minus", "turn('batch',-1)", "Batch", key_display="- +", tooltip="Micro-batch"),
        Binding("plus,equals_sign", "turn('batch',1)", "More", key_display="+", show=False),
        Binding("r", "turn('rank',-1)", "Rank", key_display="r R"),
        Binding("R", "turn('rank',1)", "Higher rank", show=False),
        Binding("e", "turn('epochs',-1)", "Epochs", key_display="e E"),
        Binding("E", "turn('epochs',1)", "More epochs", show=False),
        Binding("l", "turn('rate',-1)", "Learning rate", key_display="l L", show=False),
        Binding("L", "turn('rate',1)", "Higher learning rate", show=False),
        Binding("x", "turn('optimizer',1)", "Optimiser", show=False),
        Binding("c", "turn('checkpointing',1)", "Gradient checkpointing", show=False),
        Binding("u", "undo", "Undo the turns", show=False, tooltip="Back to the proposed values"),
        Binding("m", "model", "Model", tooltip="Only one model, also one that is not listed"),
        Binding("dollar_sign", "price", "Price", key_display="$", tooltip="Dollars per hour"),
        Binding("p", "presets", "Presets", tooltip="Recipes to begin with, yours first"),
        Binding("t", "trial", "Trial", tooltip="A few steps on some rows: does it all work?"),
        Binding("d", "start(False)", "Start, stay here", show=False, tooltip="Start detached"),
        Binding("a", "start(False,True)", "Add to the queue", show=False),
        Binding("n", "name", "Name", show=False, tooltip="Name the run"),
        Binding("i", "app.machine", "Machine", show=False, tooltip="All readings of the machine"),
        Binding("J,shift+down", "scroll(3)", "Scroll what is beside", key_display="J", show=False),
        Binding("K,shift+up", "scroll(-3)", "Scroll it back", key_display="K", show=False),
        Binding("escape", "back", "Back", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._session: PlanSession | None = None
        self._elsewhere = False

    @property
    def session(self) -> PlanSession:
        """The plan that is worked on."""
        if self._session is None:
            self._session = PlanSession(self.deck)
        return self._session

    def body(self) -> ComposeResult:
        yield LiveLines(id="basis")
        yield MemoryBar(id="memory")
        yield LiveLines(id="note")
        yield PlanEntry(id="entry")
        with Container(id="choice"):
            yield PlanTable(COLUMNS, id="candidates")
            with Pane(id="details-pane", classes="side", can_focus=False):
                yield CandidateDetails(id="details")
            with Pane(id="elsewhere-pane", classes="side", can_focus=False):
                yield Elsewhere(id="elsewhere")

    def on_mount(self) -> None:
        self.query_one("#entry").display = False
        self.query_one("#elsewhere-pane").display = False
        self.query_one(PlanTable).focus()

    def arrive(self) -> None:
        if self.focused is None:
            self.query_one(PlanTable).focus()
        self._look_again()

    def show_machine(self, machine: Machine) -> None:
        self.query_one(MemoryBar).show(machine, self.selected)
        self._look_again()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_details)

    # Planning

    def _look_again(self) -> None:
        """Plan anew when what the plan rests on has changed."""
        machine = self.deck.machine
        if machine is not None and self.session.is_stale(machine):
            self._make_plan(machine)

    @work(thread=True, exclusive=True, group="plan")
    def _make_plan(self, machine: Machine) -> None:
        try:
            made = self.session.make(machine)
        except UserError as error:
            hand_over(self, self.deck_app.report, error)
            return
        hand_over(self, self._receive, made)

    def _receive(self, made: Plan) -> None:
        before = self.selected
        self.session.receive(made)
        self._show(key_of(before) if before else None)

    # Showing

    @property
    def candidates(self) -> list[Candidate]:
        """The rows of the table, with the knobs as they were turned."""
        return self.session.candidates

    @property
    def selected(self) -> Candidate | None:
        """The highlighted candidate."""
        cursor, rows = self.query_one(PlanTable).cursor, self.candidates
        return rows[cursor] if 0 <= cursor < len(rows) else None

    def _show(self, stay_on: Key | None = None) -> None:
        session, rows = self.session, self.candidates
        keys = [key_of(candidate) for candidate in rows]
        at = next((keys.index(key) for key in (stay_on, session.starred) if key in keys), 0)
        table = self.query_one(PlanTable)
        columns = COLUMNS if session.dollars_per_hour is not None else COLUMNS[:-1]
        if columns != table.columns:
            table.columns = columns
            table.refresh()  # its header too
        table.show_rows(
            [
                candidate_row(one, key == session.starred, session.is_turned(one))[
                    : len(table.columns)
                ]
                for one, key in zip(rows, keys, strict=True)
            ],
            at,
        )
        self.query_one("#basis", LiveLines).show([basis_line(session)])
        notes = note_lines(session, max(20, self.size.width - 2))
        self.query_one("#note", LiveLines).show(notes)
        self.query_one("#note").display = bool(notes)
        self._show_details()
        self.refresh_bindings()

    def _show_details(self) -> None:
        details, elsewhere = self.query_one("#details-pane"), self.query_one("#elsewhere-pane")
        wide = self.has_class("-wide")
        details.display, elsewhere.display = wide or not self._elsewhere, wide or self._elsewhere
        self.query_one(CandidateDetails).show(self.selected, self.has_class("-narrow"))
        if elsewhere.display:  # some milliseconds, which nobody needs who does not see it
            self.query_one(Elsewhere).show(self.selected, self.session.measured)
        self.query_one(MemoryBar).show(self.deck.machine, self.selected)

    @on(LineTable.Highlighted)
    def _highlighted(self) -> None:
        self._show_details()

    def action_elsewhere(self) -> None:
        self._elsewhere = not self._elsewhere
        self._show_details()

    def action_scroll(self, lines: int) -> None:
        for pane in self.query(Pane):
            pane.scroll_relative(y=lines, animate=False)

    # Knobs

    def why_not(self, action: str) -> str | None:
        if action in ("start", "trial", "recipe", "turn", "elsewhere") and self.selected is None:
            return "There is nothing to plan with yet."
        if action in ("start", "trial", "recipe", "presets") and self.deck.source is None:
            return NO_DATA
        return None

    def action_turn(self, knob: str, step: int) -> None:
        candidate = self.selected
        if candidate is None:
            return
        if (reason := plan_knobs.why_not(candidate, knob)) is not None:
            self.notify(reason)
            return
        self.session.turn(plan_knobs.turned(candidate, knob, step))
        self._show(key_of(candidate))

    def action_undo(self) -> None:
        if self.selected is not None:
            key = key_of(self.selected)
            self.session.undo(self.selected)
            self._show(key)

    # Model, price, name, words

    def action_model(self) -> None:
        from tui.screens.pick_model import PickModelScreen

        self.app.push_screen(PickModelScreen("Plan for which model?", []), self._take_model)

    def _take_model(self, model: str | None) -> None:
        from core.models.catalogue import card_for

        if not model:
            return
        try:
            self.session.only = card_for(model)
        except UserError as error:
            self.deck_app.report(error)
            return
        self._look_again()

    def action_price(self) -> None:
        self.query_one(PlanEntry).ask("price")

    def action_name(self) -> None:
        self.query_one(PlanEntry).ask("name", self.session.name or "")

    def action_find(self) -> None:
        self.query_one(PlanEntry).ask("words", self.session.words)

    @on(Input.Changed, "#entry")
    def _typing(self, event: Input.Changed) -> None:
        entry = self.query_one(PlanEntry)
        if entry.question == "words" and entry.display and event.value != self.session.words:
            self.session.words = event.value
            self._show()

    @on(Input.Submitted, "#entry")
    def _answered(self, event: Input.Submitted) -> None:
        question = self.query_one(PlanEntry).question
        if question == "price":
            try:
                self._take_price(parse_price(event.value))
            except UserError as error:
                self.notify(str(error), severity="error")
                return
        elif question == "name":
            self.session.name = event.value.strip()[:60] or None
        self._leave_entry()

    def _take_price(self, price: float | None) -> None:
        basis = self.session.plan.basis if self.session.plan else None
        if basis is not None and basis.device:
            remember_price(basis.device, price)
        self.session.price = price
        self.session.plan_anew()

    @on(LineInput.Left, "#entry")
    def _entry_left(self) -> None:
        if self.query_one(PlanEntry).question == "words":
            self.session.words = ""
        self._leave_entry()

    def _leave_entry(self) -> None:
        self.query_one("#entry").display = False
        self.query_one(PlanTable).focus()
        self._look_again()
        self._show(key_of(self.selected) if self.selected else None)

    def action_back(self) -> None:
        session = self.session
        if session.words or session.only is not None:
            session.words, session.only = "", None
            self._look_again()
            self._show(key_of(self.selected) if self.selected else None)
        else:
            self.app.switch_mode("data")

    # The recipe, and the start

    def action_recipe(self) -> None:
        if self.selected is not None:
            self._show_recipe(self.session.recipe(self.selected))

    def _show_recipe(self, recipe: Recipe) -> None:
        from tui.screens.recipe import RecipeScreen

        self.app.push_screen(RecipeScreen(recipe), self._end_recipe)

    def _end_recipe(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            self._start(outcome.recipe, watch=outcome.watch, queued=outcome.queued)

    def action_presets(self) -> None:
        from tui.screens.pick_preset import PickPresetScreen

        basis = self.session.plan.basis if self.session.plan else None
        candidate = self.selected
        if basis is not None and candidate is not None:
            like = self.session.recipe(candidate)
            self.app.push_screen(PickPresetScreen(basis, like), self._take_preset)

    def _take_preset(self, recipe: Recipe | None) -> None:
        if recipe is not None:
            self._show_recipe(recipe)

    @on(LineTable.Opened)
    def _opened(self) -> None:
        self.action_start()

    def action_start(self, watch: bool = True, queued: bool = False) -> None:
        from tui.screens.confirm import ConfirmScreen

        candidate, reason = self.selected, self.why_not("start")
        if reason is not None or candidate is None:
            self.notify(reason or "", markup=False)
            return
        recipe = self.session.recipe(candidate)
        if candidate.fits:
            self._start(recipe, watch=watch, queued=queued)
            return
        peak, free = candidate.prediction.high, candidate.basis.free_bytes
        detail = f"It may need {peak / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free."
        question = ConfirmScreen("This is predicted not to fit. Start it?", detail, "start it")

        def decided(yes: bool | None) -> None:
            if yes:
                self._start(recipe, watch=watch, queued=queued)

        self.app.push_screen(question, decided)

    def action_trial(self) -> None:
        from core.training.trial import as_trial

        if self.selected is not None:
            self._start(as_trial(self.session.recipe(self.selected)), watch=True, queued=False)

    def _start(self, recipe: Recipe, *, watch: bool, queued: bool) -> None:
        self.deck.recipe = recipe
        self.deck_app.start_run(recipe, watch=watch, queued=queued)
