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
from core.planning.prices import parse_price
from core.recipe import Recipe
from tui import plan_knobs
from tui.plan_keys import PLAN_KEYS
from tui.plan_session import Key, PlanSession
from tui.screens.place import Place
from tui.threads import hand_over
from tui.widgets.line_input import LineInput
from tui.widgets.line_table import LineTable
from tui.widgets.painted import LiveLines
from tui.widgets.plan_blocks import CandidateDetails
from tui.widgets.plan_elsewhere import Elsewhere
from tui.widgets.plan_entry import PlanEntry
from tui.widgets.plan_head import basis_line, note_lines
from tui.widgets.plan_lines import COLUMNS, CandidateRows, columns_for
from tui.widgets.plan_memory import MemoryBar, gib
from tui.widgets.row_pane import Pane

if TYPE_CHECKING:
    from core.hardware.machine import Machine
    from core.models.catalogue import ModelCard
    from tui.screens.recipe import Outcome

NEED_A_ROW = ("start", "trial", "recipe", "turn", "elsewhere", "method")
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
    BINDINGS: ClassVar[list[BindingType]] = PLAN_KEYS

    def __init__(self) -> None:
        super().__init__()
        self._session: PlanSession | None = None
        self._elsewhere = False
        self._rows = CandidateRows()

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
        stay_on = self.selected_key
        put_forward = self.session.starred or next(iter(self.session.rows), (None,))[0]
        if stay_on == put_forward:
            stay_on = None  # whoever chose nothing goes along with what is put forward
        self.session.receive(made)
        self._show(stay_on)

    # Showing

    @property
    def selected(self) -> Candidate | None:
        """The highlighted candidate."""
        cursor, rows = self.query_one(PlanTable).cursor, self.session.rows
        return rows[cursor][1] if 0 <= cursor < len(rows) else None

    @property
    def selected_key(self) -> Key | None:
        """What it is called in this plan and in others."""
        cursor, rows = self.query_one(PlanTable).cursor, self.session.rows
        return rows[cursor][0] if 0 <= cursor < len(rows) else None

    def _show(self, stay_on: Key | None = None) -> None:
        session, rows = self.session, self.session.rows
        keys, starred = [key for key, _ in rows], session.starred
        at = next((keys.index(key) for key in (stay_on, starred) if key in keys), 0)
        table = self.query_one(PlanTable)
        columns = columns_for([one for _, one in rows], session.dollars_per_hour is not None)
        if columns != table.columns:
            table.columns = columns
            table.refresh()  # its header too
        table.show_rows(
            [
                self._rows.row(
                    key,
                    one,
                    starred=key == starred,
                    turned=session.is_turned(key),
                    cells=len(columns),
                )
                for key, one in rows
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
        self.query_one(MemoryBar).show(self.deck.machine, self.selected)
        if elsewhere.display:  # some milliseconds: after what the key itself changes
            self.call_after_refresh(self._show_elsewhere)

    def _show_elsewhere(self) -> None:
        self.query_one(Elsewhere).show(self.selected, self.session.measured)

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
        if action in NEED_A_ROW and self.selected is None:
            return "There is nothing to plan with yet."
        if action in ("start", "trial", "recipe", "presets") and self.deck.source is None:
            return NO_DATA
        if action in ("start", "trial") and self.deck.report is not None:
            return self.deck.report.error
        return None

    def action_turn(self, knob: str, step: int) -> None:
        candidate = self.selected
        if candidate is None:
            return
        if (reason := plan_knobs.why_not(candidate, knob)) is not None:
            self._say(reason)
            return
        after = plan_knobs.turned(candidate, knob, step)
        if (reason := plan_knobs.at_its_end(candidate, after, knob, step)) is not None:
            self._say(reason)
            return
        if (reason := plan_knobs.passed_over(candidate, knob)) is not None:
            self._say(reason)
        self._replace(after)

    def _say(self, reason: str) -> None:
        """In the place of what was said before: a key that is held says it many times."""
        self.app.clear_notifications()
        self.notify(reason, markup=False)

    def _replace(self, candidate: Candidate) -> None:
        """Another candidate in the highlighted row."""
        key = self.selected_key
        if key is not None:
            self.session.turn(key, candidate)
            self._show(key)

    def action_undo(self) -> None:
        key = self.selected_key
        if key is not None:
            self.session.undo(key)
            self._show(key)

    def action_method(self) -> None:
        from tui.screens.pick_method import PickMethodScreen

        if self.selected is not None:
            self.app.push_screen(PickMethodScreen(self.selected), self._take_method)

    def _take_method(self, candidate: Candidate | None) -> None:
        if candidate is not None:
            self._replace(candidate)

    def action_objective(self) -> None:
        self._plan_for(self.session.next_objective())

    def action_gpus(self) -> None:
        self._plan_for(self.session.next_gpus())

    def _plan_for(self, reason: str | None) -> None:
        """Plan anew for another choice, unless there was a reason against it."""
        if reason is not None:
            self.notify(reason, markup=False)
        self._look_again()

    # Model, price, name, words

    def action_model(self) -> None:
        from tui.screens.pick_model import PickModelScreen

        self.app.push_screen(PickModelScreen("Plan for which model?", []), self._take_model)

    def _take_model(self, model: str | None) -> None:
        if model:
            self._find_model(model)

    @work(thread=True, exclusive=True, group="model")
    def _find_model(self, model: str) -> None:
        """A hub id that is no preset is asked for: off the event loop."""
        from core.models.cards import card_anywhere

        try:
            card = card_anywhere(model)
        except UserError as error:
            hand_over(self, self.deck_app.report, error)
            return
        hand_over(self, self._plan_only, card)

    def _plan_only(self, card: ModelCard) -> None:
        self.session.only = card
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
                self.session.take_price(parse_price(event.value))
            except UserError as error:
                self.notify(str(error), severity="error")
                return
        elif question == "name":
            self.session.name = event.value.strip()[:60] or None
        self._leave_entry()

    @on(LineInput.Left, "#entry")
    def _entry_left(self) -> None:
        if self.query_one(PlanEntry).question == "words":
            self.session.words = ""
        self._leave_entry()

    def _leave_entry(self) -> None:
        self.query_one("#entry").display = False
        self.query_one(PlanTable).focus()
        self._look_again()
        self._show(self.selected_key)

    def action_back(self) -> None:
        """Out of what one went into last; at the top, to the data."""
        session = self.session
        if self._elsewhere and not self.has_class("-wide"):
            self.action_elsewhere()
        elif session.words or session.only is not None:
            session.words, session.only = "", None
            self._look_again()
            self._show(self.selected_key)
        else:
            self.app.switch_mode("data")

    # The recipe, and the start

    def action_recipe(self) -> None:
        if self.selected is not None:
            self._show_recipe(self.session.recipe(self.selected))

    def _show_recipe(self, recipe: Recipe | None) -> None:
        from tui.screens.recipe import RecipeScreen

        if recipe is not None:
            self.app.push_screen(RecipeScreen(recipe, self.session.priced), self._end_recipe)

    def _end_recipe(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            priced = self.session.priced(outcome.recipe)
            self._start_if_sure(outcome.recipe, priced, outcome.watch, outcome.queued)

    def action_presets(self) -> None:
        from tui.screens.pick_preset import PickPresetScreen

        basis = self.session.plan.basis if self.session.plan else None
        candidate = self.selected
        if basis is not None and candidate is not None:
            like = self.session.recipe(candidate)
            rows = self.deck.report.format if self.deck.report else "unknown"
            self.app.push_screen(PickPresetScreen(basis, like, rows), self._show_recipe)

    @on(LineTable.Opened)
    def _opened(self) -> None:
        self.action_start()

    def action_start(self, watch: bool = True, queued: bool = False) -> None:
        candidate, reason = self.selected, self.why_not("start")
        if reason is not None or candidate is None:
            self.notify(reason or "", markup=False)
            return
        self._start_if_sure(self.session.recipe(candidate), candidate, watch, queued)

    def _start_if_sure(
        self, recipe: Recipe, priced: Candidate | None, watch: bool, queued: bool
    ) -> None:
        """Start it, after a question where it is predicted not to fit."""
        from tui.screens.confirm import ConfirmScreen

        if priced is None or priced.fits:
            self._start(recipe, watch=watch, queued=queued)
            return
        need, free = gib(priced.prediction.high), gib(priced.basis.free_bytes)
        detail = f"It may need {need} GiB, and {free} GiB are free."
        self.app.push_screen(
            ConfirmScreen("This is predicted not to fit. Start it?", detail, "start it"),
            lambda yes: self._start(recipe, watch=watch, queued=queued) if yes else None,
        )

    def action_trial(self) -> None:
        from core.training.trial import as_trial

        if self.selected is not None:
            self._start(as_trial(self.session.recipe(self.selected)), watch=True, queued=False)

    def _start(self, recipe: Recipe, *, watch: bool, queued: bool) -> None:
        self.deck.recipe = recipe
        self.deck_app.start_run(recipe, watch=watch, queued=queued)
