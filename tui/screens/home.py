"""Home: the machine, and every run there is, the living ones live."""

from __future__ import annotations

import textwrap
import time
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from core.errors import UserError
from core.text import printable
from tui.screens.place import Place
from tui.threads import hand_over
from tui.widgets.line_input import LineInput
from tui.widgets.line_table import LineTable
from tui.widgets.machine_meters import MachineMeters
from tui.widgets.painted import LiveLines
from tui.widgets.run_rows import COLUMNS, run_row

if TYPE_CHECKING:
    from collections.abc import Callable

    from core.hardware.machine import Machine
    from core.runs.brief import Brief
    from core.runs.supervisor import RunSummary
    from tui.screens.confirm import ConfirmScreen

LOOK_SECONDS = 2.0
Listing = list[tuple["RunSummary", "Brief"]]


class HomeScreen(Place):
    """The machine above, the runs below, a word about the highlighted run under them."""

    PLACE = "home"
    AUTO_FOCUS = ""  # Textual's choice may be a line that is not displayed
    CSS_PATH = "../styles/home.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", tooltip="Open data for a new run"),
        Binding("d", "demo", "Demo", tooltip="Train the demo: embedded model and data"),
        Binding("r", "resume", "Resume", tooltip="Go on from the last checkpoint"),
        Binding("s", "stop", "Stop", tooltip="Stop the run: it writes a checkpoint first"),
        Binding("x,delete", "remove", "Delete", tooltip="Delete the run with its models"),
        Binding("slash", "filter", "Filter", key_display="/", tooltip="Show only some runs"),
        Binding("i", "app.machine", "Machine", show=False, tooltip="All readings of the machine"),
        Binding("R", "look", "Look again", show=False),
        Binding("escape", "leave_filter", "Leave the filter", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._listing: Listing | None = None
        self._shown: Listing = []
        self._arriving = True

    def body(self) -> ComposeResult:
        yield MachineMeters(id="machine")
        yield LiveLines(id="runs-title")
        yield LineInput("part of a run's name, model or state", id="filter")
        yield LineTable(COLUMNS, id="runs")
        yield LiveLines(id="word")

    def on_mount(self) -> None:
        self.query_one(LineTable).focus()
        self.query_one(Input).display = False
        self.set_interval(LOOK_SECONDS, self._look_if_in_front)

    def arrive(self) -> None:
        self._arriving = True
        self.call_after_refresh(self.action_look)

    def show_machine(self, machine: Machine) -> None:
        self.query_one(MachineMeters).show(machine)

    # Looking

    def _look_if_in_front(self) -> None:
        if self.in_front:
            self.action_look()

    @work(thread=True, exclusive=True, group="look")
    def action_look(self) -> None:
        from core.runs.brief import brief
        from core.runs.supervisor import list_runs

        try:
            listing = [(summary, brief(summary.run)) for summary in list_runs()]
        except UserError as error:
            hand_over(self, self.deck_app.report, error)
            return
        hand_over(self, self._receive, listing)

    def _receive(self, listing: Listing) -> None:
        self._listing = listing
        if self.in_front:  # else the run in hand may be younger than this look
            self._show()

    def _show(self) -> None:
        if self._listing is None:
            return
        chosen = self.selected.run if self.selected and not self._arriving else self.deck.run
        self._arriving = False
        wanted = self.query_one(Input).value.lower().split()
        self._shown = [entry for entry in self._listing if matches(entry, wanted)]
        ids = [summary.id for summary, _ in self._shown]
        cursor = ids.index(chosen.id) if chosen and chosen.id in ids else None
        now = time.time()
        rows = [run_row(summary, brief, now) for summary, brief in self._shown]
        self.query_one(LineTable).show_rows(rows, cursor)
        self.set_class(not self._listing, "-empty")
        if self.focused is None:
            self.query_one(LineTable).focus()  # it was hidden as long as there was no run
        self.query_one("#runs-title", LiveLines).show([self._title()])
        self._take_selected()

    def _take_selected(self) -> None:
        """The highlighted run is the one in hand: 4, 5 and 6 show it."""
        if self.selected is not None or not self._listing:
            self.deck.run = self.selected.run if self.selected else None
        self._show_word()
        self.refresh_bindings()

    def _title(self) -> Content:
        listing = self._listing or []
        alive = sum(1 for summary, _ in listing if summary.state.alive)
        parts = [f"{len(listing)} run{'s' if len(listing) != 1 else ''}", f"{alive} at work"]
        if len(self._shown) != len(listing):
            parts.append(f"{len(self._shown)} shown, Esc shows all")
        note = "   " + ", ".join(parts) if listing else ""
        return Content.assemble(("Runs", "bold $text-muted"), (note, "$text-muted"))

    def _show_word(self) -> None:
        if self._listing is None:
            return  # nobody has looked yet
        width = max(20, self.size.width - 4)
        lines = word_about(self.selected, width) if self._listing else FIRST_WORDS
        self.query_one("#word", LiveLines).show(lines)

    @property
    def selected(self) -> RunSummary | None:
        """The highlighted run."""
        cursor = self.query_one(LineTable).cursor
        return self._shown[cursor][0] if 0 <= cursor < len(self._shown) else None

    @on(LineTable.Highlighted)
    def _highlighted(self) -> None:
        self._take_selected()

    # Doing

    def why_not(self, action: str) -> str | None:
        run = self.selected
        if action in ("resume", "stop", "remove") and run is None:
            return "There is no run to do that with."
        if run is None:
            return None
        alive = run.state.alive
        if action == "stop" and not alive:
            return f"{run.id} is not running."
        if action == "remove" and alive:
            return f"{run.id} is running. Stop it first."
        if action == "resume" and run.state.phase not in ("stopped", "failed"):
            return f"{run.id} {'is running' if alive else 'has finished'}: nothing to resume."
        return None

    @on(LineTable.Opened)
    def _open(self) -> None:
        if self.selected is not None:
            finished = self.selected.state.phase == "finished"
            self.app.switch_mode("result" if finished else "train")

    def action_new(self) -> None:
        self.app.switch_mode("data")

    def action_demo(self) -> None:
        self.deck_app.start_demo()

    def action_resume(self) -> None:
        run = self.selected
        if run is not None:
            from core.runs.supervisor import resume

            told = f"{run.id} goes on from its last checkpoint."
            self._do(lambda: resume(run.run), told)

    def action_stop(self) -> None:
        from core.runs.supervisor import stop
        from tui.screens.confirm import ConfirmScreen

        run = self.selected
        if run is None:
            return
        question = ConfirmScreen(
            f"Stop {run.id}?", "It writes a checkpoint first and can be resumed.", "stop it"
        )
        told = f"{run.id} stops when its checkpoint is written."
        self._ask(question, lambda: stop(run.run), told)

    @work(thread=True, exclusive=True, group="remove")
    def action_remove(self) -> None:
        from core.runs.brief import bytes_on_disk

        run = self.selected
        if run is not None:
            size = bytes_on_disk(run.run)
            hand_over(self, self._ask_to_remove, run, size)

    def _ask_to_remove(self, run: RunSummary, size: int) -> None:
        from core.runs.supervisor import remove
        from core.units import bytes_text
        from tui.screens.confirm import ConfirmScreen

        detail = f"Its checkpoints, adapter and merged model go with it: {bytes_text(size)}."
        question = ConfirmScreen(f"Delete {run.id}?", detail, "delete it for good")
        told = f"{run.id} is gone."
        self._ask(question, lambda: remove(run.run), told)

    def _ask(self, question: ConfirmScreen, deed: Callable[[], None], told: str) -> None:
        """Do it if the answer is yes."""

        def answered(yes: bool | None) -> None:
            if yes:
                self._do(deed, told)

        self.app.push_screen(question, answered)

    @work(thread=True, group="do")
    def _do(self, deed: Callable[[], None], told: str) -> None:
        """Do something to a run off the event loop, then look what became of it."""
        try:
            deed()
        except UserError as error:
            hand_over(self, self.deck_app.report, error)
        else:
            if told:
                hand_over(self, partial(self.notify, told, markup=False))
        hand_over(self, self.action_look)

    # Filtering

    def action_filter(self) -> None:
        entry = self.query_one(Input)
        entry.display = True
        entry.focus()

    def action_leave_filter(self) -> None:
        entry = self.query_one(Input)
        entry.value = ""
        entry.display = False
        self.query_one(LineTable).focus()

    @on(LineInput.Left)
    def _filter_left(self) -> None:
        self.action_leave_filter()

    @on(Input.Changed)
    def _filter_changed(self) -> None:
        self._show()

    @on(Input.Submitted)
    def _filter_done(self) -> None:
        self.query_one(Input).display = bool(self.query_one(Input).value)
        self.query_one(LineTable).focus()


def matches(entry: tuple[RunSummary, Brief], wanted: list[str]) -> bool:
    """Whether each wanted word occurs in the run's id, model, method or state."""
    summary, brief = entry
    text = f"{summary.id} {brief.model} {brief.method} {summary.state.phase} {summary.state.stage}"
    return all(word in text.lower() for word in wanted)


def word_about(run: RunSummary | None, width: int) -> list[Content]:
    """What happens next with the highlighted run; for a failed one first why it failed."""
    if run is None:
        return [Content.styled("  No run has that in its name, model or state.", "$text-muted")]
    state = run.state
    if state.phase == "failed":
        reason = state.exit
        message = printable(reason.message if reason else "It ended without a reason.")
        remedy = printable(reason.remedy if reason else "")
        wrap = partial(textwrap.wrap, width=width, max_lines=3, placeholder=" …")
        return [
            *(
                Content.styled(line, "$error")
                for line in wrap(f"✗ {message}", subsequent_indent="  ")
            ),
            *(Content(f"  {line}") for line in wrap(remedy)),
            Content.assemble("  ", *_keys(("r", "resumes it"), ("⏎", "shows its curves and log"))),
        ]
    saved = any(run.run.checkpoints.glob("checkpoint-*"))
    again = "resumes it from its last checkpoint" if saved else "starts it again"
    nexts = {
        "finished": (("⏎", "shows the result"), ("6", "talks to the model")),
        "stopped": (("r", again), ("⏎", "shows its curves")),
    }.get(state.phase, (("⏎", "watches it live"), ("s", "stops it with a checkpoint")))
    return [
        Content.styled(f"  {printable(str(run.run.path), single_line=True)}", "$text-muted"),
        Content.assemble("  ", *_keys(*nexts)),
    ]


def _keys(*pairs: tuple[str, str]) -> list[Content | tuple[str, str]]:
    return [
        part
        for key, words in pairs
        for part in ((key, "bold $accent"), (f" {words}   ", "$text-muted"))
    ]


FIRST_WORDS = [
    Content("No runs yet. A run goes from data to a model that you can talk to."),
    Content(""),
    Content.assemble(
        ("  d  ", "bold $accent"),
        "Train the demo: a small model learns to write JSON, in minutes.",
    ),
    Content.assemble(
        ("  n  ", "bold $accent"), "Open your own data: JSONL, CSV, Parquet, or a hub id."
    ),
]
