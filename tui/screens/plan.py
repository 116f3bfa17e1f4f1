"""Plan: what fits in the memory that is free now, how long it takes, what it costs."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Input

from core.errors import UserError
from core.planning.candidates import Candidate, Plan
from core.planning.planner import plan
from core.planning.recipes import recipe_for
from core.planning.search import retune
from core.recipe import Recipe
from core.text import printable
from core.units import count_text
from tui.screens.place import Place
from tui.threads import hand_over
from tui.widgets.line_input import LineInput
from tui.widgets.line_table import LineTable
from tui.widgets.painted import LiveLines
from tui.widgets.plan_blocks import CandidateDetails, MemoryBar
from tui.widgets.plan_lines import COLUMNS, candidate_row
from tui.widgets.row_pane import Pane

if TYPE_CHECKING:
    from core.hardware.machine import Machine
    from core.models.catalogue import ModelCard

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RANKS = (4, 8, 16, 32, 64, 128, 256)
EPOCHS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0)
MOVED_ENOUGH = 0.03
ASSUMED_TOKENS, ASSUMED_ROWS = 300, 1000
NO_DATA = "Open data first: 2 goes there."
Key = tuple[str, str]
T = TypeVar("T", int, float)


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
        Binding("y", "recipe", "Recipe", tooltip="The exact recipe: read, edit, write to a file"),
        Binding("left_square_bracket", "turn('length',-1)", "Length", key_display="[ ]"),
        Binding("right_square_bracket", "turn('length',1)", "Longer", key_display="]", show=False),
        Binding("minus", "turn('batch',-1)", "Batch", key_display="- +", tooltip="Micro-batch"),
        Binding("plus,equals_sign", "turn('batch',1)", "More", key_display="+", show=False),
        Binding("r", "turn('rank',-1)", "Rank", key_display="r R"),
        Binding("R", "turn('rank',1)", "Higher rank", show=False),
        Binding("e", "turn('epochs',-1)", "Epochs", key_display="e E"),
        Binding("E", "turn('epochs',1)", "More epochs", show=False),
        Binding(
            "c", "checkpointing", "Checkpointing", show=False, tooltip="Gradient checkpointing"
        ),
        Binding("u", "undo", "Undo the turns", show=False, tooltip="Back to the proposed values"),
        Binding("m", "model", "Model", tooltip="Only one model, also one that is not listed"),
        Binding("dollar_sign", "price", "Price", key_display="$", tooltip="Dollars per hour"),
        Binding("n", "name", "Name", show=False, tooltip="Name the run"),
        Binding("escape", "back", "Back", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._plan: Plan | None = None
        self._turned: dict[Key, Candidate] = {}
        self._only: ModelCard | None = None
        self._price: float | None = None
        self._name: str | None = None
        self._planned_for: tuple[object, ...] = ()

    def body(self) -> ComposeResult:
        yield LiveLines(id="basis")
        yield MemoryBar(id="memory")
        yield LiveLines(id="note")
        yield LineInput(id="entry")
        with Container(id="choice"):
            yield PlanTable(COLUMNS, id="candidates")
            with Pane(id="details-pane", can_focus=False):
                yield CandidateDetails(id="details")

    def on_mount(self) -> None:
        self.query_one("#entry").display = False
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
        """Plan anew when what the plan rests on has changed, the free memory only if it moved."""
        machine = self.deck.machine
        if machine is None:
            return
        gpu = machine.best_gpu()
        free = (gpu.free if gpu else machine.ram_available) or 0
        counted = self.deck.report.tokens if self.deck.report else None
        basis = (self.deck.source, counted, self._only, self._price, gpu is not None)
        before = self._planned_for
        moved = not before or abs(free - before[-1]) > MOVED_ENOUGH * max(free, 1)  # type: ignore[operator]
        if moved or before[:-1] != basis:
            self._planned_for = (*basis, free)
            self._make_plan(machine)

    @work(thread=True, exclusive=True, group="plan")
    def _make_plan(self, machine: Machine) -> None:
        report = self.deck.report
        counted = report.tokens if report else None
        rows = report.usable if report and report.usable else ASSUMED_ROWS
        counted_rows = (counted.counted_rows or rows) if counted else rows
        try:
            made = plan(
                machine,
                rows=rows,
                tokens_per_row=counted.total / counted_rows if counted else ASSUMED_TOKENS,
                p95=counted.p95 if counted else ASSUMED_TOKENS,
                max_tokens=counted.max if counted else ASSUMED_TOKENS,
                models=[self._only] if self._only else None,
                dollars_per_hour=self._price,
            )
        except UserError as error:
            hand_over(self, self.deck_app.report, error)
            return
        hand_over(self, self._receive, made)

    def _receive(self, made: Plan) -> None:
        before = self.selected
        self._plan = made
        self._turned = {
            _key(fresh): retune(self._turned[_key(fresh)], basis=fresh.basis)
            for fresh in made.candidates
            if _key(fresh) in self._turned
        }
        self._show(_key(before) if before else None)

    # Showing

    @property
    def candidates(self) -> list[Candidate]:
        """The rows of the table, with the knobs as they were turned."""
        made = self._plan.candidates if self._plan else ()
        return [self._turned.get(_key(candidate), candidate) for candidate in made]

    @property
    def selected(self) -> Candidate | None:
        """The highlighted candidate."""
        cursor, rows = self.query_one(PlanTable).cursor, self.candidates
        return rows[cursor] if 0 <= cursor < len(rows) else None

    def _show(self, stay_on: Key | None = None) -> None:
        rows = self.candidates
        starred = self._plan.recommended if self._plan else None
        keys = [_key(candidate) for candidate in rows]
        cursor = keys.index(stay_on) if stay_on in keys else (starred or 0)
        table = self.query_one(PlanTable)
        table.columns = COLUMNS if self._price is not None else COLUMNS[:-1]
        table.show_rows(
            [
                candidate_row(candidate, i == starred, _key(candidate) in self._turned)[
                    : len(table.columns)
                ]
                for i, candidate in enumerate(rows)
            ],
            cursor,
        )
        self.query_one("#basis", LiveLines).show([self._basis_line()])
        notes = self._notes()
        self.query_one("#note", LiveLines).show(notes)
        self.query_one("#note").display = bool(notes)
        self._show_details()
        self.refresh_bindings()

    def _show_details(self) -> None:
        brief = self.has_class("-narrow")
        self.query_one(CandidateDetails).show(self.selected, brief)
        self.query_one(MemoryBar).show(self.deck.machine, self.selected)

    def _basis_line(self) -> Content:
        source, report = self.deck.source, self.deck.report
        if source is None:
            return Content.assemble(
                ("No data is open. ", "bold"),
                f"Shown for {count_text(ASSUMED_ROWS)} rows of {ASSUMED_TOKENS} tokens.  ",
                ("2", "bold $accent"),
                " opens your data.",
            )
        parts = [("Run ", "$text-muted"), (printable(self.run_name, single_line=True), "bold")]
        rows = count_text(report.usable) if report else "… counting"
        parts.append((f"   {rows} rows", ""))
        if report and report.tokens:
            tokens = report.tokens
            parts.append(
                (f"   {count_text(tokens.total)} tokens   longest {count_text(tokens.max)}", "")
            )
        else:
            parts.append((f"   tokens not counted: {ASSUMED_TOKENS} a row assumed", "$warning"))
        price = f"   ${self._price:g} an hour" if self._price is not None else ""
        return Content.assemble(*parts, (price, "$text-muted"))

    def _notes(self) -> list[Content]:
        lines = [self._plan.note] if self._plan and self._plan.note else []
        if self._only is not None:
            lines.append(f"Only {self._only.id} is shown. Esc shows all models.")
        width = max(20, self.size.width - 2)
        wrapped = [part for line in lines for part in textwrap.wrap(printable(line), width)]
        return [Content.styled(line, "$text-muted") for line in wrapped]

    @on(LineTable.Highlighted)
    def _highlighted(self) -> None:
        self._show_details()

    # Knobs

    def why_not(self, action: str) -> str | None:
        if action in ("start", "recipe", "turn", "checkpointing") and self.selected is None:
            return "There is nothing to plan with yet."
        if action in ("start", "recipe") and self.deck.source is None:
            return NO_DATA
        return None

    def action_turn(self, knob: str, step: int) -> None:
        candidate = self.selected
        if candidate is None:
            return
        hyper = candidate.hyper
        if knob == "length":
            turned = retune(candidate, seq_length=_step(LENGTHS, candidate.seq_length, step))
        elif knob == "batch":
            turned = retune(candidate, micro_batch=_step(POWERS, candidate.micro_batch, step))
        elif knob == "epochs":
            turned = retune(candidate, epochs=_step(EPOCHS, hyper.epochs, step))
        elif candidate.method == "full":
            self.notify("Full fine-tuning has no rank.")
            return
        else:
            turned = retune(candidate, rank=_step(RANKS, hyper.rank, step))
        self._turn(turned)

    def action_checkpointing(self) -> None:
        if self.selected is not None:
            on = not self.selected.gradient_checkpointing
            self._turn(retune(self.selected, gradient_checkpointing=on))

    def _turn(self, candidate: Candidate) -> None:
        self._turned[_key(candidate)] = candidate
        self._show(_key(candidate))

    def action_undo(self) -> None:
        if self.selected is not None:
            self._turned.pop(_key(self.selected), None)
            self._show(_key(self.selected))

    # Model, price, name

    def action_model(self) -> None:
        from tui.screens.pick_model import PickModelScreen

        self.app.push_screen(PickModelScreen("Plan for which model?", []), self._take_model)

    def _take_model(self, model: str | None) -> None:
        from core.models.catalogue import card_for

        if not model:
            return
        try:
            self._only = card_for(model)
        except UserError as error:
            self.deck_app.report(error)
            return
        self._look_again()

    def action_price(self) -> None:
        self._ask("dollars per hour, for the cost: 2.49")

    def action_name(self) -> None:
        self._ask("a name for the run")

    def _ask(self, what: str) -> None:
        entry = self.query_one("#entry", LineInput)
        entry.placeholder, entry.value, entry.display = what, "", True
        entry.focus()

    @on(Input.Submitted, "#entry")
    def _answered(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if event.input.placeholder.startswith("dollars"):
            try:
                price = float(text.removeprefix("$")) if text else None
            except ValueError:
                price = -1.0
            if price is not None and not 0 <= price < 100_000:
                self.notify("A price is a number of dollars, like 2.49.", severity="error")
                return
            self._price = price
        else:
            self._name = text[:60] or None
        self._leave_entry()

    @on(LineInput.Left, "#entry")
    def _leave_entry(self) -> None:
        self.query_one("#entry").display = False
        self.query_one(PlanTable).focus()
        self._look_again()
        self._show(_key(self.selected) if self.selected else None)

    def action_back(self) -> None:
        if self._only is not None:
            self._only = None
            self._look_again()
        else:
            self.app.switch_mode("data")

    # The recipe, and the start

    @property
    def run_name(self) -> str:
        """As named by the user, else after the data."""
        return self._name or Path(self.deck.source or "run").stem[:60] or "run"

    def _recipe(self, candidate: Candidate) -> Recipe:
        report = self.deck.report
        return recipe_for(
            candidate,
            name=self.run_name,
            sources=[self.deck.source or ""],
            mapping=self.deck.mapping,
            rows=report.usable if report else 0,
        )

    def action_recipe(self) -> None:
        from tui.screens.recipe import RecipeScreen

        if self.selected is not None:
            self.app.push_screen(RecipeScreen(self._recipe(self.selected)), self._start)

    @on(LineTable.Opened)
    def _opened(self) -> None:
        self.action_start()

    def action_start(self) -> None:
        from tui.screens.confirm import ConfirmScreen

        candidate, reason = self.selected, self.why_not("start")
        if reason is not None or candidate is None:
            self.notify(reason or "", markup=False)
            return
        recipe = self._recipe(candidate)
        if candidate.fits:
            self._start(recipe)
            return
        peak, free = candidate.prediction.high, candidate.basis.free_bytes
        detail = f"It may need {peak / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free."
        question = ConfirmScreen("This is predicted not to fit. Start it?", detail, "start it")
        self.app.push_screen(question, lambda yes: self._start(recipe) if yes else None)

    def _start(self, recipe: Recipe | None) -> None:
        if recipe is not None:
            self.deck.recipe = recipe
            self.deck_app.start_run(recipe)


def _key(candidate: Candidate) -> Key:
    return candidate.model.id, candidate.method


def _step(ladder: tuple[T, ...], value: float, step: int) -> T:
    """The next rung of the ladder above or below the value."""
    if step > 0:
        return next((rung for rung in ladder if rung > value), ladder[-1])
    return next((rung for rung in reversed(ladder) if rung < value), ladder[0])
