"""Data: the rows of a source, what is wrong with them, and what would be trained on."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from core.data.report import Report
from core.data.rows import Progress
from core.errors import UserError
from core.models.embedded import MODEL_ID
from core.paths import expanded
from core.text import printable
from tui.data_session import DataSession, Source
from tui.screens.place import Place
from tui.threads import hand_over
from tui.widgets.column_mapping import ColumnMapping
from tui.widgets.data_lines import WELCOME, error_lines, head_lines, pass_line
from tui.widgets.data_views import DataViews
from tui.widgets.errands import Errands
from tui.widgets.line_input import LineInput
from tui.widgets.line_table import LineTable
from tui.widgets.painted import LiveLines
from tui.widgets.path_input import PathInput
from tui.widgets.starts import StartsTable

if TYPE_CHECKING:
    from core.data.encoding import TrainOn

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
NO_SOURCE = "Open a source first: o types a path, ^t shows the files."
NEEDS_A_SOURCE = frozenset(
    "plan view tokens find length give_up again write train_on held_out".split()  # noqa: SIM905
)


class DataScreen(Place):
    """The source on top, what it holds below: five views of it, details beside them."""

    PLACE = "data"
    AUTO_FOCUS = ""  # Textual's choice may be a line that is not displayed
    CSS_PATH = "../styles/data.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "plan", "Plan", tooltip="Plan a run on this data"),
        Binding("left,h", "view(-1)", "View", key_display="←→", tooltip="Another view"),
        Binding("right,l", "view(1)", "Next view", show=False),
        Binding("t", "tokens", "Tokens", tooltip="The row as text, or as tokens"),
        Binding("slash", "find", "Find", key_display="/", tooltip="Only rows that hold a text"),
        Binding("o", "source", "Source", tooltip="Type a path or a hub id"),
        Binding("ctrl+t", "files", "Files", key_display="^t", tooltip="Pick a file from a tree"),
        Binding("m", "model", "Model", tooltip="Whose tokenizer counts"),
        Binding("left_square_bracket", "length(-1)", "Shorter cut", key_display="[", show=False),
        Binding("right_square_bracket", "length(1)", "Longer cut", key_display="]", show=False),
        Binding(
            "a", "train_on", "Train on", show=False, tooltip="All answers, the last, everything"
        ),
        Binding("e", "held_out", "Held out", tooltip="Rows of your own to evaluate on"),
        Binding("w", "write", "Clean copy", tooltip="Save a cleaned copy of the rows"),
        Binding("r", "again", "Read again", show=False, tooltip="Read the source again"),
        Binding("x", "give_up", "Stop the pass", show=False, tooltip="Stop checking; keep it all"),
        Binding("escape", "back", "Back", show=False),
    ]

    class Progressed(Message):
        """The pass has come further."""

        def __init__(self, progress: Progress) -> None:
            super().__init__()
            self.progress = progress

    class Reported(Message):
        """A report, complete or so far."""

        def __init__(self, report: Report) -> None:
            super().__init__()
            self.report = report

    class TokenizerNews(Message):
        """The tokenizer that is being fetched has come further, or is here."""

    def __init__(self) -> None:
        super().__init__()
        self._session = DataSession(on_progress=self._tell_progress, on_report=self._tell_report)
        self._error: UserError | None = None

    def _tell_progress(self, progress: Progress) -> None:
        """On the client's thread."""
        self.post_message(self.Progressed(progress))

    def _tell_report(self, report: Report) -> None:
        """On the client's thread."""
        self.post_message(self.Reported(report))

    @property
    def model(self) -> str:
        """Whose tokenizer counts."""
        return self.deck.model or MODEL_ID

    def body(self) -> ComposeResult:
        with Horizontal(id="source"):
            yield Static("Source ", classes="muted")
            yield PathInput("a file, a folder, or a hub id", id="path")
        yield LiveLines(id="choices")
        yield LiveLines(id="head")
        yield LiveLines(id="pass")
        yield Errands(self._session, id="outcome")
        yield StartsTable(id="starts")
        yield DataViews(self._session, id="data-views")

    def on_mount(self) -> None:
        self._show()

    def on_unmount(self) -> None:
        self._session.close()

    def arrive(self) -> None:
        source = self._session.source
        if self.deck.source and (source is None or self.deck.source != source.name):
            self.open_source(self.deck.source)
        elif source is None and not self._error:
            self.query_one(StartsTable).look()
            self.query_one(StartsTable).focus()
        elif self.focused is None and source is not None:
            self.query_one(DataViews).focus_list()

    # Opening

    def open_source(self, name: str, mapping: dict[str, str] | None = None) -> None:
        """Open a path or hub id: the rows come at once, the pass runs behind them."""
        path = expanded(name)
        names_a_list = path.parent.is_file()  # FILE/test: a list in a JSON file
        name = str(path.resolve()) if path.exists() or names_a_list else name
        source = Source(
            name, dict(mapping or {}), self.model, self.deck.max_length, self.deck.train_on
        )
        self.query_one(PathInput).value = name
        before = self._session.source
        again = before is not None and before.name == name
        if name != self.deck.source:
            self.deck.held_out = None
        self.deck.source, self.deck.report = name, None
        self._error = None
        self.query_one(Errands).say()
        self._session.source = source
        self.query_one(DataViews).start(source, again=again)
        self._show()
        self._open(source)

    def _open_again(self) -> None:
        """The same source with another tokenizer or length."""
        source = self._session.source
        if source is not None:
            self.open_source(source.name, source.mapping)

    @work(thread=True, exclusive=True, group="open")
    def _open(self, source: Source) -> None:
        try:
            self._session.open(source)
        except UserError as error:
            hand_over(self, self._failed, source, error)
        else:
            hand_over(self, self._opened, source)

    def _opened(self, source: Source) -> None:
        if source is not self._session.source or source.opened is None:
            return
        recognised = source.opened.format != "unknown"
        self.deck.mapping = dict(source.opened.mapping) if recognised else {}
        self.query_one(DataViews).show_opened(source)
        if self._session.lacks_tokenizer(source.model):
            self._fetch_tokenizer(source.model)
        self._show()

    def _failed(self, source: Source, error: UserError) -> None:
        if source is self._session.source:
            self._error, self._session.source, self.deck.source = error, None, None
            self.query_one(StartsTable).look()
            self._show()
            self.query_one(PathInput).focus()

    def _fetch_tokenizer(self, model: str) -> None:
        """In a thread that does not keep the app from being left: it may take minutes."""

        def tell() -> None:
            self.post_message(self.TokenizerNews())

        Thread(target=self._session.fetch_tokenizer, args=(model, tell), daemon=True).start()

    @on(TokenizerNews)
    def _tokenizer_news(self) -> None:
        if self._session.can_count_now:
            self._open_again()
        self._show_head()

    @on(Progressed)
    def _progressed(self, event: Progressed) -> None:
        if self._session.source is not None:
            self._session.source.progress = event.progress
            self.query_one(DataViews).grow(event.progress.known_rows)
            self._show_head()

    @on(Reported)
    def _reported(self, event: Reported) -> None:
        source = self._session.source
        if source is not None:
            source.report = event.report
            self.deck.report = event.report if event.report.complete else None
            self.query_one(DataViews).refresh_report()
            self._show()
            if event.report.complete and not event.report.leakage and self.deck.eval_sources:
                self.query_one(Errands).compare(self.deck.eval_sources)

    # Showing

    def _show(self) -> None:
        self.set_class(self._session.source is None, "-starting")
        self._show_head()
        self.refresh_bindings()

    def _show_head(self) -> None:
        source = self._session.source
        self.query_one("#head", LiveLines).show(self._head(source))
        width = self.size.width - 2
        busy = source is not None and source.opened is not None and source.progress.stage != "done"
        lines = [pass_line(source.progress, width)] if busy and source else []
        self.query_one("#pass", LiveLines).show(lines)

    def _head(self, source: Source | None) -> list[Content]:
        if self._error is not None:
            return error_lines(self._error, self.size.width - 2)
        if source is None:
            return WELCOME
        note = printable(self._session.note, single_line=True)
        return head_lines(source, note, self.size.width - 2)

    # Doing

    def why_not(self, action: str) -> str | None:
        source = self._session.source
        if action in NEEDS_A_SOURCE and (source is None or source.opened is None):
            return NO_SOURCE
        if action == "plan" and source is not None and source.report and source.report.error:
            return source.report.error
        if action == "give_up" and source is not None and source.progress.ended:
            return "The pass has ended."
        if action == "write" and self.query_one(Errands).writing:
            return "A copy is being written."
        return None

    def action_plan(self) -> None:
        self.app.switch_mode("plan")

    def action_view(self, step: int) -> None:
        self.query_one(DataViews).turn(step)

    def action_tokens(self) -> None:
        views = self.query_one(DataViews)
        views.view = "rows"
        views.as_tokens = not views.as_tokens
        if self.has_class("-narrow"):
            views.opened_line = True

    def action_find(self) -> None:
        self.query_one(DataViews).find()

    def action_source(self) -> None:
        entry = self.query_one(PathInput)
        entry.focus()
        entry.cursor_position = len(entry.value)

    def action_give_up(self) -> None:
        self._session.client.cancel()

    def action_again(self) -> None:
        self._open_again()

    def action_back(self) -> None:
        """Out of what one went into last; at the top it stops the pass, and then leaves."""
        source = self._session.source
        if source is not None and self.query_one(DataViews).back():
            return
        if source is not None and source.opened is not None and not source.progress.ended:
            self.action_give_up()
        else:
            self.app.switch_mode("home")

    def action_length(self, step: int) -> None:
        near = min(range(len(LENGTHS)), key=lambda i: abs(LENGTHS[i] - self.deck.max_length))
        self.deck.max_length = LENGTHS[max(0, min(len(LENGTHS) - 1, near + step))]
        self._open_again()

    def action_train_on(self) -> None:
        order: tuple[TrainOn, ...] = ("assistant", "last", "all")
        self.deck.train_on = order[(order.index(self.deck.train_on) + 1) % len(order)]
        self._open_again()

    def action_files(self) -> None:
        from tui.screens.pick_file import PickFileScreen

        source = self._session.source
        path = Path(source.name) if source else Path.cwd()
        folder = path.parent if path.is_file() else path if path.is_dir() else Path.cwd()
        self.app.push_screen(PickFileScreen(folder), self._take)

    def _take(self, name: str | None) -> None:
        if name:
            self.open_source(name)

    def action_model(self) -> None:
        from core.models.catalogue import card_for
        from tui.screens.pick_model import PickModelScreen

        first = [card_for(MODEL_ID)]
        self.app.push_screen(PickModelScreen("Whose tokenizer counts?", first), self._take_model)

    def _take_model(self, model: str | None) -> None:
        if model:
            self.deck.model = model
            self._open_again()
            self._show()

    # Rows held out

    def action_held_out(self) -> None:
        from tui.screens.held_out import HeldOutScreen

        named = self.deck.eval_sources
        now = (self.deck.source or "") if len(named) > 1 else "".join(named)
        self.app.push_screen(HeldOutScreen(now), self._hold_out)

    def _hold_out(self, name: str | None) -> None:
        if name is None:
            return
        self.deck.held_out = name
        source = self._session.source
        if name and source is not None and source.report and source.report.complete:
            self.query_one(Errands).compare([name])
        elif name:
            stopped = source is not None and source.progress.stage == "cancelled"
            when = "r reads the rows anew, and compares." if stopped else "Compared after the pass."
            self.query_one(Errands).say(when)
        else:
            self._open_again()
            self.query_one(Errands).say("A part of these rows is held out for evaluation.")

    # A cleaned copy

    def action_write(self) -> None:
        from tui.screens.save_copy import SaveCopyScreen, suggested_copy

        source = self._session.source
        if source is not None:
            self.app.push_screen(SaveCopyScreen(str(suggested_copy(source.name))), self._write)

    def _write(self, path: str | None) -> None:
        if path is not None:
            self.query_one(Errands).write(Path(path))

    # The source line

    @on(Input.Submitted, "#path")
    def _typed(self, event: Input.Submitted) -> None:
        self.query_one("#choices", LiveLines).show([])
        if event.value.strip():
            self.open_source(event.value.strip())

    @on(PathInput.Choices)
    def _choices(self, event: PathInput.Choices) -> None:
        names = "  ".join(printable(name, single_line=True) for name in event.names)
        lines = [Content.styled(names, "$text-muted")] if names else []
        self.query_one("#choices", LiveLines).show(lines)

    @on(LineInput.Left, "#path")
    def _left(self) -> None:
        if self._session.source is not None:
            self.query_one(DataViews).focus_list()
        else:
            self.query_one(StartsTable).focus()

    @on(LineTable.Opened, "#starts")
    def _picked(self) -> None:
        self._take(self.query_one(StartsTable).chosen)

    @on(ColumnMapping.Confirmed)
    def _mapped(self, event: ColumnMapping.Confirmed) -> None:
        source = self._session.source
        if source is not None:
            self.open_source(source.name, event.mapping)
