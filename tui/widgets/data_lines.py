"""What the Data screen says about a source: its head, its pass, its problems, the advice."""

from __future__ import annotations

import textwrap
from functools import partial
from typing import TYPE_CHECKING

from textual.content import Content

from core.data.advice import advise
from core.data.problems import OF_FILES
from core.data.report import Leakage, Problem, Report, Severity
from core.data.rows import CleanCopy, Opened, Progress
from core.errors import UserError
from core.text import printable
from core.units import bytes_text, count_text, duration_text, parameters_text
from tui.widgets.bars import bar
from tui.widgets.line_table import Column, Row
from tui.widgets.phrases import spread

if TYPE_CHECKING:
    from tui.data_session import Source

UNRECOGNISED = UserError(
    "No format is recognised: no column has a known name.",
    "Columns (←→) asks which has which role.",
)
WELCOME = [
    Content("Open rows to train on: JSONL, JSON, CSV, Parquet or text; a folder; a hub id."),
    Content.assemble(
        ("o", "bold $accent"),
        (" types a path or a hub id (tab completes); or pick one of these:", "$text-muted"),
    ),
]
_NOTE_LINES = 3
"""Why no tokens are counted is a sentence or two."""
NO_PROBLEMS = Content.styled("No problems have been found.", "$text-muted")
TRAINED = {"assistant": "", "last": "last answers only", "all": "every token trained"}
"""What of the rows is trained; the usual is not worth a word."""
PROBLEM_COLUMNS = (
    Column("Severity", 9),
    Column("Problem", 23),
    Column("Rows", 7, right=True),
    Column("What it means", 20, grow=1, needs=72),
)
MARKS: dict[Severity, tuple[str, str]] = {
    "error": ("✗", "$error"),
    "warning": ("!", "$warning"),
    "info": ("·", "$text-muted"),
}


def head_lines(source: Source, note: str, width: int) -> list[Content]:
    """The format and the rows, with whose tokenizer counts; then the tokens."""
    opened = source.opened
    if opened is None:
        return [Content.styled("Opening …", "$text-muted"), Content("")]
    name = printable(source.model.rstrip("/").rsplit("/", 1)[-1], single_line=True)
    left = _rows_line(opened, source.progress, source.report)
    cut = f"cut at {count_text(source.max_length)}"
    how = ", ".join(part for part in (cut, TRAINED[source.train_on]) if part)
    room = width - left.cell_length - 2
    whose = next((text for text in (f"{name}, {how}", how, cut) if len(text) <= room), "")
    first = spread(left, Content.styled(whose, "$text-muted"), width)
    if opened.format == "unknown" and opened.columns:
        return [first, *error_lines(UNRECOGNISED, width)]
    if source.report is not None and source.report.error:
        return [first, *error_lines(UserError(source.report.error), width)]
    if note and (source.report is None or source.report.tokens is None):
        wrap = partial(textwrap.wrap, width=max(20, width), max_lines=_NOTE_LINES, placeholder=" …")
        return [first, *(Content.styled(line, "$text-muted") for line in wrap(note))]
    return [first, _token_line(source)]


def _rows_line(opened: Opened, progress: Progress, report: Report | None) -> Content:
    rows = report.rows if report is not None and report.complete else progress.known_rows
    parts = [f"{count_text(rows)} row{'s' if rows != 1 else ''}"]
    if report is not None:
        usable = f"{count_text(report.usable)} usable"
        parts.append(usable if report.complete else f"{usable} so far")
    if opened.bytes is not None:
        parts.append(bytes_text(opened.bytes))
    if len(opened.files) > 1:
        parts.append(f"{len(opened.files)} files")
    style = "bold" if opened.format != "unknown" else "bold $warning"
    return Content.styled(opened.format, style) + Content("   " + "   ".join(parts))


def _token_line(source: Source) -> Content:
    report = source.report
    tokens = report.tokens if report is not None else None
    if tokens is None:
        usual = "Counting tokens …"
        if report is not None and report.complete:
            usual = "No row can be used, so there are no tokens to count."
        elif source.progress.stage == "cancelled":
            usual = "The pass was stopped before any tokens were counted."
        return Content.styled(usual, "$text-muted")
    share = f" ({100 * tokens.trained / tokens.total:.0f} %)" if tokens.total else ""
    return Content(
        f"{_tokens(tokens.total)} tokens   {_tokens(tokens.trained)} trained{share}   "
        f"a row: p50 {_tokens(tokens.p50)}  p95 {_tokens(tokens.p95)}  max {_tokens(tokens.max)}"
    )


def _tokens(count: int) -> str:
    """All digits as long as they can be read at a glance."""
    return count_text(count) if count < 10_000_000 else parameters_text(count)


def pass_line(progress: Progress, width: int) -> Content:
    """How far the pass is, how fast, and how long it still takes; or where it was stopped."""
    if progress.stage == "cancelled":
        return _stopped_line(progress)
    share = progress.bytes / progress.total_bytes if progress.total_bytes else None
    words = {"opening": "opening", "checking": "checking", "tokens": "counting tokens"}
    text = f"{words.get(progress.stage, progress.stage)}  {count_text(progress.rows)} rows"
    if progress.rate is not None:
        text += f"   {bytes_text(progress.rate)}/s"
    if progress.seconds_left is not None:
        text += f"   {duration_text(progress.seconds_left)} left"
    end = Content.assemble(("   Esc", "bold $accent"), (" stops", "$text-muted"))
    room = max(8, min(40, width - len(text) - end.cell_length - 2))
    return bar(share, room) + Content("  " + text) + end


def _stopped_line(progress: Progress) -> Content:
    share = progress.bytes / progress.total_bytes if progress.total_bytes else 0.0
    return Content.assemble(
        ("■ stopped", "bold $warning"),
        f" after {count_text(progress.rows)} rows ({share:.0%}); rows were not compared   ",
        ("r", "bold $accent"), (" starts anew", "$text-muted"),
    )  # fmt: skip


def copy_line(copy: CleanCopy) -> Content:
    """What a cleaned copy holds, what it lacks, and where both are written down."""
    removed = sum(copy.removed.values())
    reasons = ", ".join(f"{code} {count_text(rows)}" for code, rows in copy.removed.items())
    kept = f" {count_text(copy.kept)} rows in {copy.file}"
    left = f"; {count_text(removed)} left out ({reasons})" if removed else "; none left out"
    return Content.assemble(("✓", "bold $success"), kept, (left, "$text-muted"))


def leakage_line(found: Leakage) -> Content:
    """What of the held-out rows is in the open ones too."""
    rows = f"{count_text(found.rows)} rows held out"
    name = printable(found.source.rstrip("/").rsplit("/", 1)[-1], single_line=True)
    where = (f"   {name}", "$text-muted")
    shared = found.exact + found.near
    if not shared:
        return Content.assemble(("✓", "bold $success"), f" none of {rows} is here too", where)
    split = f"{count_text(found.exact)} to the letter, {count_text(found.near)} nearly"
    are = "are" if shared != 1 else "is"
    words = f" {count_text(shared)} of {rows} {are} here too: {split}"
    return Content.assemble(("✗", "bold $error"), words, where)


def problem_row(problem: Problem) -> Row:
    """A line of the list of problems."""
    mark, style = MARKS[problem.severity]
    return (
        Content.styled(f"{mark} {problem.severity}", style),
        problem.code,
        "–" if problem.code in OF_FILES else count_text(problem.count),
        printable(problem.message, single_line=True),
    )


def problem_words(problem: Problem) -> Content:
    """A problem in full: what it means, what to do, where it is."""
    mark, style = MARKS[problem.severity]
    rows = ", ".join(count_text(row) for row in problem.rows)
    more = " …" if problem.count > len(problem.rows) else ""
    example = []
    if problem.example and problem.rows:
        said = f"Row {count_text(problem.rows[0])}: {printable(problem.example, single_line=True)}"
        example = [Content(""), Content(said)]
    where = [
        Content(""),
        Content.styled(f"Rows {rows}{more}", "$text-muted"),
        Content.assemble(("⏎", "bold $accent"), (" shows only these rows", "$text-muted")),
    ]
    return Content("\n").join(
        [
            Content.assemble((f"{mark} {problem.code}", f"bold {style}")),
            Content(""),
            Content(printable(problem.message)),
            Content(printable(problem.remedy)),
            *example,
            *(where if rows else []),
        ]
    )


def filter_line(problem: str | None, search: str, searching: bool) -> Content:
    """Which rows are shown, and whether more are being looked for."""
    what = " and ".join(part for part in (problem or "", f"“{search}”" if search else "") if part)
    end = "  looking for more …" if searching else ""
    return Content.assemble(
        ("only ", "$text-muted"), (printable(what, single_line=True), "bold"),
        (f"{end}   ", "$text-muted"), ("Esc", "bold $accent"), (" shows all", "$text-muted"),
    )  # fmt: skip


def advice_words(report: Report | None) -> Content:
    """What the literature advises for these data, each with its reason."""
    if report is None or not report.complete:
        return Content.styled("Advice comes when every row has been looked at.", "$text-muted")
    found = advise(report)
    if not found:
        return Content.styled("There is nothing to train on yet, so no advice.", "$text-muted")
    parts = [
        Content.assemble(
            ("· ", "$accent"),
            (advice.text, "bold"),
            "\n",
            advice.why,
            "\n",
            (advice.source, "$text-muted"),
        )
        for advice in found
    ]
    return Content("\n\n").join(parts)


def error_lines(error: UserError, width: int) -> list[Content]:
    """What is wrong with a source, and what to do."""
    wrap = partial(textwrap.wrap, width=max(20, width), subsequent_indent="  ")
    message = wrap(f"✗ {printable(error.message, single_line=True)}")
    remedy = wrap(f"  {printable(error.remedy, single_line=True)}") if error.remedy else []
    return [*(Content.styled(line, "$error") for line in message), *map(Content, remedy)]
