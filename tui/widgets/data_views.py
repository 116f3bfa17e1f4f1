"""The five looks at a source (rows, problems, statistics, advice, columns) and the pane beside."""

from __future__ import annotations

import re

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.reactive import var
from textual.timer import Timer
from textual.widgets import Input, Static

from core.data.advice import advise
from core.data.report import Problem
from core.data.rows import Page
from core.errors import UserError
from core.text import printable
from core.units import count_text
from tui.data_session import DataSession, Source
from tui.threads import hand_over
from tui.widgets.column_mapping import ColumnMapping
from tui.widgets.data_lines import (
    NO_PROBLEMS,
    PROBLEM_COLUMNS,
    advice_words,
    filter_line,
    problem_row,
    problem_words,
)
from tui.widgets.line_input import LineInput
from tui.widgets.line_table import LineTable
from tui.widgets.painted import LiveLines
from tui.widgets.row_pane import Pane, RowPane, readable, tokens
from tui.widgets.row_table import PAGE, RowTable
from tui.widgets.statistics import StatisticsView

VIEWS = ("rows", "problems", "statistics", "advice", "columns")
ASK_AGAIN_SECONDS = 0.2
REST_SECONDS = 0.05
"""How long the highlight stays on a row before the pane shows it: a key that is held moves on
first, and the pane costs more than the highlight."""


class DataViews(Vertical):
    """One view at a time; where there is room, the details of its highlighted line beside it."""

    view: var[str] = var("rows")
    """Which of the five is seen."""
    as_tokens: var[bool] = var(False, init=False)
    """Whether the pane shows a row's tokens."""
    opened_line: var[bool] = var(False, init=False)
    """Whether the pane has taken the list's place, where there is room for one only."""

    def __init__(self, session: DataSession, *, id: str) -> None:
        super().__init__(id=id)
        self._session = session
        self._problem: str | None = None
        self._search = ""
        self._searching = False
        self._advised = ""
        self._resting: Timer | None = None
        self._back_to = 0
        """The row to go back to when a source that was opened again has come so far."""

    def compose(self) -> ComposeResult:
        yield LiveLines(id="views")
        yield LineInput("a text that a row holds, or #1234 for the row of that number", id="find")
        with Horizontal(id="middle"):
            with Vertical(id="list"):
                yield RowTable(id="rows")
                yield LineTable(PROBLEM_COLUMNS, id="problems")
                yield StatisticsView(id="statistics")
                with Pane(id="advice"):
                    yield Static(id="advice-words", markup=False)
                yield ColumnMapping(self._session, id="columns")
            yield RowPane(id="pane")

    def on_mount(self) -> None:
        self.query_one("#find").display = False

    # What it shows

    @property
    def filtered(self) -> bool:
        """Whether only some rows are shown."""
        return bool(self._problem or self._search)

    def start(self, source: Source, *, again: bool) -> None:
        """Another source, or the same `again` in another way: then one stays where one is."""
        table = self.query_one(RowTable)
        kept = again and self.view != "columns"
        self._back_to = table.cursor if kept and not self.filtered else 0
        self._problem, self._search = None, ""
        table.reset()
        if not kept:
            self.query_one(RowPane).show(Content(""))
            self.view = "rows"
        self.refresh_report()

    def show_opened(self, source: Source) -> None:
        """The first rows are known, and the columns."""
        if source.opened is None:
            return
        self.query_one(RowTable).reset(len(source.opened.rows))
        self._go_back()
        self.refresh_report()
        self.query_one(ColumnMapping).show(source.opened)
        if source.opened.format == "unknown":
            self.view = "columns"
        self.focus_list()

    def grow(self, known_rows: int) -> None:
        """The pass has come further."""
        if not self.filtered:
            self.query_one(RowTable).grow(known_rows)
            self._go_back()
            self._show_labels()

    def _show_advice(self) -> None:
        """Only what is new: an update lays out the whole screen."""
        source = self._session.source
        words = advice_words(source.report if source else None)
        if words.plain != self._advised:
            self._advised = words.plain
            self.query_one("#advice-words", Static).update(words)

    def _go_back(self) -> None:
        table = self.query_one(RowTable)
        if self._back_to and self._back_to < table.count:
            table.go_to(self._back_to)
            self._back_to = 0

    def refresh_report(self) -> None:
        """The report has news."""
        source = self._session.source
        report = source.report if source else None
        rows = [problem_row(problem) for problem in self._problems]
        self.query_one("#problems", LineTable).show_rows(rows)
        if report is not None and report.complete and not self.filtered:
            self.query_one(RowTable).renew(report.rows)
        self._show_statistics()
        self._show_advice()
        self._show_labels()
        if self.view == "problems":
            self._show_pane()

    @property
    def _problems(self) -> tuple[Problem, ...]:
        source = self._session.source
        return source.report.problems if source and source.report else ()

    def _show_labels(self) -> None:
        source = self._session.source
        report = source.report if source else None
        counts = {"rows": count_text(self.query_one(RowTable).count)}
        if report is not None:
            counts["problems"] = str(len(self._problems))
        if report is not None and report.complete:
            counts["advice"] = str(len(advise(report)))
        here, there = "bold underline $accent", "$text-muted"
        line = Content("   ").join(
            Content.styled(
                f"{view.capitalize()} {counts.get(view, '')}".strip(),
                here if view == self.view else there,
            )
            for view in VIEWS
        )
        lines = [line]
        if self.filtered:
            lines.append(filter_line(self._problem, self._search, self._searching))
        self.query_one("#views", LiveLines).show(lines)

    def _show_statistics(self) -> None:
        source = self._session.source
        length = source.max_length if source else 0
        self.query_one(StatisticsView).show(source.report if source else None, length)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_statistics)

    # Moving between the views

    def watch_view(self, view: str) -> None:
        for name in VIEWS:
            self.query_one(f"#{name}").display = name == view
        self.opened_line = False
        self.set_class(view not in ("rows", "problems"), "-no-pane")
        self._show_labels()
        self._show_pane()
        self.call_after_refresh(self._show_statistics)

    def turn(self, step: int) -> None:
        """To the next view, or the one before."""
        self.view = VIEWS[(VIEWS.index(self.view) + step) % len(VIEWS)]
        self.focus_list()

    def focus_list(self) -> None:
        self.query_one("#mapping" if self.view == "columns" else f"#{self.view}").focus()

    def watch_opened_line(self, opened: bool) -> None:
        self.set_class(opened, "-opened")
        if opened:
            self.query_one(RowPane).focus()

    def back(self) -> bool:
        """Undo the last step into something: the pane, the search, the filter. False at the top."""
        find = self.query_one("#find", Input)
        if self.opened_line:
            self.opened_line = False
        elif self.filtered or find.display:
            find.display, find.value = False, ""
            self._filter(None, "")
        elif self.view != "rows":
            self.view = "rows"
        else:
            return False
        self.focus_list()
        return True

    # Rows

    @on(RowTable.PageNeeded)
    def _page_needed(self, event: RowTable.PageNeeded) -> None:
        self._fetch_page(event.start, event.generation)

    @work(thread=True, group="pages")
    def _fetch_page(self, start: int, generation: int) -> None:
        try:
            page = self._session.client.rows(
                start, PAGE, problem=self._problem, search=self._search
            )
        except UserError:
            return  # another opening has overtaken this one
        hand_over(self, self._receive_page, page, generation)

    def _receive_page(self, page: Page, generation: int) -> None:
        table = self.query_one(RowTable)
        if generation != table.generation:
            return
        table.receive(page)
        self._searching = self.filtered and not page.complete
        if self._searching:
            self.set_timer(ASK_AGAIN_SECONDS, lambda: self._ask_for_more(generation))
        self._show_labels()

    def _ask_for_more(self, generation: int) -> None:
        """The search goes on from where it was; what it has found shows meanwhile."""
        table = self.query_one(RowTable)
        if generation == table.generation:
            table.ask_for_more()

    @on(LineTable.Highlighted)
    def _highlighted(self, event: LineTable.Highlighted) -> None:
        if event.table.id == self.view:
            if self._resting is not None:
                self._resting.stop()
            self._resting = self.set_timer(REST_SECONDS, self._show_pane)

    @on(LineTable.Opened)
    def _line_opened(self, event: LineTable.Opened) -> None:
        problem = self._problems[event.index] if event.table.id == "problems" else None
        if problem is not None and problem.rows:
            self._filter(problem.code, "")
            self.view = "rows"
            self.focus_list()
        else:
            self.opened_line = True

    def _filter(self, problem: str | None, search: str) -> None:
        if (problem, search) == (self._problem, self._search):
            return
        self._problem, self._search = problem, search
        self._searching = self.filtered
        source = self._session.source
        table = self.query_one(RowTable)
        table.reset(0 if self.filtered else source.progress.known_rows if source else 0)
        table.ask(0)
        self._show_labels()

    @on(LineInput.Left)
    def _line_left(self, event: LineInput.Left) -> None:
        """Out of the line: to the rows, that were there before it."""
        if event.line.id == "find":
            event.line.display = False
            self.focus_list()
        elif self.view == "columns":
            self.back()

    def find(self) -> None:
        """Type a text that the rows to be shown must hold."""
        self.view = "rows"
        entry = self.query_one("#find", Input)
        entry.value, entry.display = "", True
        entry.focus()

    @on(Input.Submitted, "#find")
    def _find(self, event: Input.Submitted) -> None:
        self.query_one("#find").display = False
        number = re.fullmatch(r"#\s*([\d,]+)", event.value.strip())
        if number:
            self._filter(None, "")
            self._go_to(int(number[1].replace(",", "")))
        else:
            self._filter(self._problem, event.value)
        self.focus_list()

    @work(thread=True, exclusive=True, group="go")
    def _go_to(self, number: int) -> None:
        try:
            position = self._session.client.position(number)
        except UserError as error:
            hand_over(self, self._say, error)
        else:
            hand_over(self, self.query_one(RowTable).go_to, position)

    def _say(self, error: UserError) -> None:
        self.notify(printable(str(error)), markup=False, timeout=4)

    # The pane

    def watch_as_tokens(self) -> None:
        self._show_pane()

    def _show_pane(self) -> None:
        pane = self.query_one(RowPane)
        if self.view == "problems":
            index = self.query_one("#problems", LineTable).cursor
            shown = index < len(self._problems)
            pane.show(problem_words(self._problems[index]) if shown else NO_PROBLEMS)
        elif self.view == "rows":
            row = self.query_one(RowTable).selected
            if row is not None:
                self._fetch_row(row.number, self.as_tokens)

    @work(thread=True, exclusive=True, group="row")
    def _fetch_row(self, number: int, as_tokens: bool) -> None:
        try:
            content = self._content_of(number, as_tokens)
        except UserError as error:
            content = Content.styled(printable(str(error)), "$text-muted")
        hand_over(self, self._show_row, number, as_tokens, content)

    def _content_of(self, number: int, as_tokens: bool) -> Content:
        """The row as it is asked for; as text where it has no tokens, with the reason."""
        client = self._session.client
        if not as_tokens:
            return readable(client.row(number))
        try:
            return tokens(client.tokens(number))
        except UserError as error:
            why = Content.styled(f"No tokens: {printable(str(error))}", "$text-muted")
            return why + Content("\n\n") + readable(client.row(number))

    def _show_row(self, number: int, as_tokens: bool, content: Content) -> None:
        row = self.query_one(RowTable).selected
        if row is not None and (row.number, self.as_tokens) == (number, as_tokens):
            self.query_one(RowPane).show(content)
