"""Which column has which role: as recognised, or as the user says, with what comes of it."""

from __future__ import annotations

import shlex
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input

from core.data.rows import MappingTrial, Opened
from core.errors import UserError
from core.text import printable
from core.units import count_text
from tui.data_session import DataSession
from tui.threads import hand_over
from tui.widgets.line_input import LineInput
from tui.widgets.painted import LiveLines

HOW_TO_WRITE = "Write it as role=column, with a space between two of them."
MOST_COLUMNS = 8


class ColumnMapping(Vertical):
    """The columns, a line to type a mapping in, and the first rows as that mapping reads them."""

    DEFAULT_CSS = """
    ColumnMapping { height: 1fr; }
    ColumnMapping #mapping { margin: 0 2; }
    ColumnMapping #trial { margin: 1 0 0 2; }
    """
    SHOWN_ROWS: ClassVar[int] = 2

    class Confirmed(Message):
        """The user says which column has which role."""

        def __init__(self, mapping: dict[str, str]) -> None:
            super().__init__()
            self.mapping = mapping

    def __init__(self, session: DataSession, *, id: str) -> None:
        super().__init__(id=id)
        self._session = session

    def compose(self) -> ComposeResult:
        yield LiveLines(id="column-lines")
        yield LineInput("prompt=column completion=column", id="mapping")
        yield LiveLines(id="trial")

    def show(self, opened: Opened | None) -> None:
        """Show the columns of a source, with the mapping in use or a suggested one."""
        self.query_one("#column-lines", LiveLines).show(column_lines(opened) if opened else [])
        mapping = opened.mapping if opened else {}
        entry = self.query_one("#mapping", LineInput)
        entry.value = " ".join(f"{role}={shlex.quote(name)}" for role, name in mapping.items())
        entry.cursor_position = len(entry.value)
        self._try(entry.value)

    @on(Input.Changed, "#mapping")
    def _changed(self, event: Input.Changed) -> None:
        self._try(event.value)

    def _try(self, typed: str) -> None:
        try:
            mapping = parse_mapping(typed)
        except UserError as error:
            self._say(error)
            return
        if mapping:
            self._ask(mapping)
        else:
            self.query_one("#trial", LiveLines).show([])

    @work(thread=True, exclusive=True, group="trial")
    def _ask(self, mapping: dict[str, str]) -> None:
        try:
            trial = self._session.client.try_mapping(mapping)
        except UserError as error:
            hand_over(self, self._say, error)
        else:
            hand_over(self, self._show_trial, trial)

    def _say(self, error: UserError) -> None:
        words = printable(str(error), single_line=True)
        self.query_one("#trial", LiveLines).show([Content.styled(words, "$text-muted")])

    def _show_trial(self, trial: MappingTrial) -> None:
        self.query_one("#trial", LiveLines).show(trial_lines(trial, self.SHOWN_ROWS))

    @on(Input.Submitted, "#mapping")
    def _confirm(self, event: Input.Submitted) -> None:
        try:
            self.post_message(self.Confirmed(parse_mapping(event.value)))
        except UserError as error:
            self.notify(str(error), markup=False)


def parse_mapping(typed: str) -> dict[str, str]:
    """`role=column …` as a mapping; a column with a space in it stands in quotes."""
    try:
        pairs = [word.partition("=") for word in shlex.split(typed)]
    except ValueError as error:  # a quotation mark that is open
        raise UserError("A quotation mark is not closed.", HOW_TO_WRITE) from error
    if not all(role and column for role, _, column in pairs):
        raise UserError("This is not a mapping (yet).", HOW_TO_WRITE)
    return {role: column for role, _, column in pairs}


def column_lines(opened: Opened) -> list[Content]:
    """The columns and their roles, and what may be typed below them."""
    roles = {column: role for role, column in opened.mapping.items()}
    known = opened.format != "unknown"
    shown = opened.columns[:MOST_COLUMNS]
    names = [Content(printable(column, single_line=True)) for column in shown]
    width = max([name.cell_length for name in names] + [len("Column")]) + 2
    title = "Role" if known else "Role (suggested)"
    lines = [Content.styled(f"  {'Column':<{width}}{title}", "$text-muted")]
    for column, name in zip(shown, names, strict=True):
        role = Content.styled(
            roles.get(column, "–"), "$accent" if column in roles else "$text-muted"
        )
        lines.append(Content("  ") + name.pad_right(width - name.cell_length) + role)
    if more := len(opened.columns) - len(shown):
        lines.append(Content.styled(f"  … and {more} more columns", "$text-muted"))
    advice = (
        f"They are read as {opened.format}. Another mapping may be typed; ⏎ opens the source so."
        if known
        else "These columns have no known names: say which has which role, then ⏎ takes it."
    )
    return [*lines, Content(""), Content.styled(f"  {advice}", "$text-muted" if known else "")]


def trial_lines(trial: MappingTrial, most: int) -> list[Content]:
    """How many of the first rows the mapping makes usable, and how some of them read."""
    mark, style = ("✓", "$success") if trial.usable == trial.tried else ("!", "$warning")
    if not trial.usable:
        mark, style = "✗", "$error"
    words = (
        f" {count_text(trial.usable)} of the first {count_text(trial.tried)} rows can be used"
        f" with it, as {trial.format}:"
    )
    lines = [Content.assemble((mark, f"bold {style}"), words)]
    for row in trial.rows[:most]:
        label = f"{count_text(row.number):>6}"
        lines.append(Content.assemble((f"{label}  prompt ", "$text-muted"), row.prompt))
        lines.append(Content.assemble((f"{'':>6}  answer ", "$text-muted"), row.answer))
    return lines
