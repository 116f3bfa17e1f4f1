"""Result: what the tuning has changed, on rows that the training never saw."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Thread
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from core.errors import UserError
from core.evaluation.comparison import Pair, pair_up
from core.evaluation.results import Results, read_answers, read_results
from core.runs.directory import RunDirectory
from core.runs.events import Event
from core.runs.outputs import Output, outputs
from core.runs.watch import RunView
from core.text import printable
from core.units import count_text
from tui.screens.run_place import RunPlace
from tui.widgets.line_table import Column, LineTable
from tui.widgets.painted import LiveLines
from tui.widgets.run_header import title_line
from tui.widgets.scores import (
    FILTERS,
    caveats,
    detail,
    filter_line,
    method_line,
    output_lines,
    score_lines,
    table_row,
)

NOTHING = (
    "No run is open.\n\n"
    "Press 1 for Home and open a run that has finished: its results are shown here."
)
COLUMNS = (
    Column("row", 5, right=True),
    Column("prompt", 20, grow=3),
    Column("reference", 20, grow=2, needs=70),
    Column("base", 4),
    Column("tuned", 5),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """What lies in the run's folder; `stamp` tells when it was written."""

    stamp: tuple[float, ...]
    results: Results
    pairs: tuple[Pair, ...]
    outputs: tuple[Output, ...]

    @property
    def trained(self) -> bool:
        """Whether there is a model to measure, to export and to talk to."""
        return any(output.name in ("adapter", "merged") for output in self.outputs)


class ResultScreen(RunPlace):
    """Base against tuned, row by row, and where the tuned model lies."""

    PLACE = "result"
    CSS_PATH = "../styles/result.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "close", "Rows", key_display="esc", tooltip="Back to the rows"),
        Binding("n", "row(1)", "Next"),
        Binding("p", "row(-1)", "Previous"),
        Binding("c", "chat", "Chat", tooltip="Talk to the tuned model"),
        Binding("f", "filter(1)", "Filter", tooltip="Show only fixed, broken or wrong rows"),
        Binding("F", "filter(-1)", "Filter backwards", show=False),
        Binding("x", "export", "Export", tooltip="Write the merged model to the export folder"),
        Binding("v", "evaluate", "Measure again", tooltip="Evaluate base and tuned once more"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._measured: Measured | None = None
        self._shown: Measured | None = None
        self._pairs: list[Pair] = []
        self._filter = "all"
        self._busy = ""

    def body(self) -> ComposeResult:
        yield Static(NOTHING, id="nothing", markup=False)
        with Vertical(id="result"):
            yield LiveLines(id="head")
            with Horizontal(id="summary"):
                yield LiveLines(id="scores")
                yield LiveLines(id="outputs")
            yield Static(id="caveats", markup=False)
            yield LiveLines(id="filters")
            with Horizontal(id="rows"):
                yield LineTable(COLUMNS, id="table")
                with VerticalScroll(id="detail-scroll", can_focus=False):
                    yield Static(id="detail", markup=False)

    def leave_run(self) -> None:
        self._measured = self._shown = None
        self._busy = ""

    def read_more(self, view: RunView) -> Measured:
        """Read the results again if they have been written since."""
        stamp = _stamp(view.run)
        if self._measured is None or self._measured.stamp != stamp:
            pairs = pair_up(read_answers(view.run, "base"), read_answers(view.run, "tuned"))
            self._measured = Measured(
                stamp, read_results(view.run), tuple(pairs), tuple(outputs(view.run))
            )
        return self._measured

    def show(self, view: RunView, more: Any) -> None:
        measured: Measured = more
        models = measured.results.models
        width = self.size.width - 2
        self.query_one("#head", LiveLines).show([title_line(view, width), method_line(models)])
        self.query_one("#scores", LiveLines).show(score_lines(models))
        lines = output_lines(measured.outputs, self.query_one("#outputs").size.width)
        self.query_one("#outputs", LiveLines).show(lines)
        self.set_class(not measured.pairs, "-empty")
        self._show_caveats(caveats(view, models, measured.trained))
        if measured is not self._shown:
            self._shown = measured
            self.refresh_bindings()
            self._show_rows()

    def _show_caveats(self, lines: list[Content]) -> None:
        if self._busy:
            lines = [Content.styled(f"▸ {self._busy}", "$accent")]
        content = Content("\n").join(lines)
        static = self.query_one("#caveats", Static)
        if static.content != content:
            static.update(content)
            static.display = bool(lines)

    def _show_rows(self) -> None:
        pairs = () if self._shown is None else self._shown.pairs
        self._pairs = [pair for pair in pairs if pair.verdict in FILTERS[self._filter]]
        self.query_one("#filters", LiveLines).show([filter_line(pairs, self._filter)])
        table = self.query_one("#table", LineTable)
        table.show_rows([table_row(pair) for pair in self._pairs], cursor=0)
        if not self.has_class("-detail"):
            table.focus()
        self._show_detail(0)

    def _show_detail(self, index: int) -> None:
        pair = self._pairs[index] if index < len(self._pairs) else None
        empty = Content.styled("No such row." if self._shown else "", "$foreground-muted")
        self.query_one("#detail", Static).update(detail(pair) if pair else empty)
        self.query_one("#detail-scroll").scroll_home(animate=False)

    def on_line_table_highlighted(self, message: LineTable.Highlighted) -> None:
        self._show_detail(message.index)

    def on_line_table_opened(self, message: LineTable.Opened) -> None:
        """Enter shows the row alone, in all of the room."""
        self._open_detail(True)

    def _open_detail(self, opened: bool) -> None:
        self.set_class(opened, "-detail")
        scroll = self.query_one("#detail-scroll", VerticalScroll)
        scroll.can_focus = opened
        self.set_focus(scroll if opened else self.query_one("#table"))
        self.refresh_bindings()

    def action_close(self) -> None:
        self._open_detail(False)

    def action_row(self, step: int) -> None:
        self.query_one("#table", LineTable).cursor += step

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The keys of an opened row are there only while it is open."""
        if action in ("close", "row"):
            return self.has_class("-detail")
        return super().check_action(action, parameters)

    def on_resize(self) -> None:
        self.look()

    def why_not(self, action: str) -> str | None:
        view = self.view
        if action not in ("chat", "filter", "export", "evaluate"):
            return None
        if view is None:
            return "No run is open: press 1 and choose one."
        if action == "filter":
            return None if self._shown and self._shown.pairs else "There are no rows yet."
        if self._busy and action in ("export", "evaluate"):
            return f"{self._busy} Wait until that is done."
        if view.state.alive and action in ("export", "evaluate", "chat"):
            return "The run goes on: that can be done when it has ended."
        if self._shown is None or not self._shown.trained:
            return "This run has no trained model yet: 4 Train shows why."
        return None

    def action_chat(self) -> None:
        self.app.switch_mode("chat")

    def action_filter(self, step: int) -> None:
        names = list(FILTERS)
        self._filter = names[(names.index(self._filter) + step) % len(names)]
        self._show_rows()

    def action_export(self) -> None:
        run = self._begin("Writing the merged model to the export folder …")
        Thread(target=self._export, args=[run], daemon=True).start()

    def action_evaluate(self) -> None:
        """In a thread that quitting does not wait for; the measuring ends with the app."""
        run = self._begin("Measuring again: the models are being loaded …")
        Thread(target=self._evaluate, args=[run], daemon=True).start()

    def _begin(self, words: str) -> RunDirectory:
        assert self.view is not None
        self._busy = words
        self.refresh_bindings()
        self.look()
        return self.view.run

    def _export(self, run: RunDirectory) -> None:
        from core.export.exporting import export

        def write() -> str:
            return f"Written to {printable(str(export(run, 'merged')), single_line=True)}"

        self._carry_out(write)

    def _evaluate(self, run: RunDirectory) -> None:
        from core.evaluation.client import evaluate_run

        def measure() -> str:
            evaluate_run(run, on_event=self._note_progress)
            return "Measured again."

        self._carry_out(measure)

    def _carry_out(self, act: Callable[[], str]) -> None:
        """In a thread: do it, and tell how it ended."""
        words, problem = "", None
        try:
            words = act()
        except UserError as error:
            problem = error
        with suppress(RuntimeError):  # the app has gone meanwhile
            self.app.call_from_thread(self._end, words, problem)

    def _note_progress(self, event: Event) -> None:
        """In the thread of the evaluation; shown with the next look."""
        if event.get("kind") == "progress":
            text = printable(str(event.get("text", "")), single_line=True)
            done, total = count_text(event.get("done")), count_text(event.get("total"))
            self._busy = f"Measuring: {text} {done} of {total} {event.get('unit', '')}"

    def _end(self, words: str, error: UserError | None) -> None:
        self._busy = ""
        self._measured = None
        self.refresh_bindings()
        if error is not None:
            self.deck_app.report(error)
        elif words:
            self.notify(words, markup=False, timeout=8)
        self.look()


def _stamp(run: RunDirectory) -> tuple[float, ...]:
    """Changes whenever results, adapter, merged model or exports are written."""
    stamps = []
    for path in (run.eval / "results.json", run.adapter, run.merged, run.export):
        try:
            stamps.append(os.stat(path).st_mtime)
        except OSError:
            stamps.append(0.0)
    return tuple(stamps)
