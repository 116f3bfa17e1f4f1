"""What the Data screen says about a source: its head, its pass, its problems, its lengths."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from textual.content import Content

from core.data.report import Problem, Report, Severity, TokenStatistics
from core.data.rows import Opened, Progress
from core.errors import UserError
from core.text import printable
from core.units import bytes_text, count_text, duration_text, parameters_text
from tui.widgets.bars import bar
from tui.widgets.line_table import Column, Row
from tui.widgets.phrases import spread

if TYPE_CHECKING:
    from tui.data_session import Source

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
    room = width - left.cell_length - 2
    whose = next((text for text in (f"{name}, {cut}", name, cut) if len(text) <= room), "")
    return [
        spread(left, Content.styled(whose, "$text-muted"), width),
        _token_line(source.report, note),
    ]


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


def _token_line(report: Report | None, note: str) -> Content:
    tokens = report.tokens if report is not None else None
    if tokens is None:
        done = report is not None and report.complete
        usual = (
            "No row can be used, so there are no tokens to count." if done else "Counting tokens …"
        )
        return Content.styled(note or usual, "$text-muted")
    share = f" ({100 * tokens.trained / tokens.total:.0f} %)" if tokens.total else ""
    return Content(
        f"{_tokens(tokens.total)} tokens   {_tokens(tokens.trained)} trained{share}   "
        f"a row: p50 {_tokens(tokens.p50)}  p95 {_tokens(tokens.p95)}  max {_tokens(tokens.max)}"
    )


def _tokens(count: int) -> str:
    """All digits as long as they can be read at a glance."""
    return count_text(count) if count < 10_000_000 else parameters_text(count)


def pass_line(progress: Progress, width: int) -> Content:
    """How far the pass is, how fast, and how long it still takes."""
    share = progress.bytes / progress.total_bytes if progress.total_bytes else None
    words = {"opening": "opening", "checking": "checking", "tokens": "counting tokens"}
    text = f"{words.get(progress.stage, progress.stage):<15} {count_text(progress.rows)} rows"
    if progress.rate is not None:
        text += f"   {bytes_text(progress.rate)}/s"
    if progress.seconds_left is not None:
        text += f"   {duration_text(progress.seconds_left)} left"
    end = Content.assemble(("   x", "bold $accent"), (" gives up", "$text-muted"))
    room = max(8, min(40, width - len(text) - end.cell_length - 2))
    return bar(share, room) + Content("  " + text) + end


def problem_row(problem: Problem) -> Row:
    """A line of the list of problems."""
    mark, style = MARKS[problem.severity]
    return (
        Content.styled(f"{mark} {problem.severity}", style),
        problem.code,
        count_text(problem.count),
        printable(problem.message, single_line=True),
    )


def problem_words(problem: Problem) -> Content:
    """A problem in full: what it means, what to do, where it is."""
    mark, style = MARKS[problem.severity]
    rows = ", ".join(count_text(row) for row in problem.rows)
    more = " …" if problem.count > len(problem.rows) else ""
    return Content("\n").join(
        [
            Content.assemble((f"{mark} {problem.code}", f"bold {style}")),
            Content(""),
            Content(printable(problem.message)),
            Content(printable(problem.remedy)),
            Content(""),
            Content.styled(f"Rows {rows}{more}" if rows else "", "$text-muted"),
            Content.assemble(("⏎", "bold $accent"), (" shows only these rows", "$text-muted")),
        ]
    )


def histogram(
    tokens: TokenStatistics | None, max_length: int, width: int, height: int
) -> list[Content]:
    """How long the rows are, as bars; those beyond the cut in another colour, with a word."""
    if tokens is None or not tokens.histogram:
        words = "No tokens are counted yet. m chooses whose tokenizer counts."
        return [Content.styled(words, "$text-muted")]
    bins = merged_bins(tokens.histogram, max(4, height - 5))
    most = max(rows for _, rows in bins)
    digits = max(len(count_text(most)), 4)
    label = max(max(len(count_text(bound)) for bound, _ in bins) + 2, len("tokens"))
    room = max(8, width - label - digits - 4 - len("  cut"))
    lines = [Content.styled(f"{'tokens':>{label}}  {'rows':>{digits}}", "$text-muted")]
    lines += [
        _histogram_line(bound, rows, most, label, digits, room, bound > max_length)
        for bound, rows in bins
    ]
    cut, counted = count_text(tokens.truncated_rows), count_text(tokens.counted_rows)
    length = count_text(max_length)
    verdict = (
        f"{cut} of {counted} rows are longer than {length} tokens and lose their end."
        if tokens.truncated_rows
        else f"Every row fits in {length} tokens."
    )
    keys = [("   [ ]", "bold $accent"), (" move the cut", "$text-muted")]
    return [*lines, Content(""), Content.assemble(verdict, *keys)]


def merged_bins(bins: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """At most `most` bins: neighbours are put together, the rows stay the same in sum."""
    step = -(-len(bins) // most)
    groups = [bins[at : at + step] for at in range(0, len(bins), step)]
    return [(group[-1][0], sum(rows for _, rows in group)) for group in groups]


def _histogram_line(
    bound: int, rows: int, most: int, label: int, digits: int, room: int, beyond: bool
) -> Content:
    length = round(rows / most * room) if most else 0
    length = max(1, length) if rows else 0
    style = "$error" if beyond else "$accent"
    return Content.assemble(
        (f"{'≤ ' + count_text(bound):>{label}}", "$text-muted"),
        f"  {count_text(rows):>{digits}}  ",
        ("━" * length, style),
        ("  cut" if beyond and rows else "", style),
    )


def column_lines(opened: Opened) -> list[Content]:
    """The columns and their roles, and what may be typed below them."""
    roles = {column: role for role, column in opened.mapping.items()}
    known = opened.format != "unknown"
    names = [Content(printable(column, single_line=True)) for column in opened.columns]
    width = max([name.cell_length for name in names] + [len("Column")]) + 2
    title = "Role" if known else "Role (suggested)"
    lines = [Content.styled(f"  {'Column':<{width}}{title}", "$text-muted")]
    for column, name in zip(opened.columns, names, strict=True):
        role = Content.styled(
            roles.get(column, "–"), "$accent" if column in roles else "$text-muted"
        )
        lines.append(Content("  ") + name.pad_right(width - name.cell_length) + role)
    advice = (
        "Another mapping may be typed here, as role=column …; ⏎ opens the source with it."
        if known
        else "Nobody knows these columns. Say which has which role, as role=column …, then ⏎."
    )
    return [*lines, Content(""), Content.styled(f"  {advice}", "" if not known else "$text-muted")]


def error_lines(error: UserError, width: int) -> list[Content]:
    """What is wrong with a source, and what to do."""
    wrap = partial(textwrap.wrap, width=max(20, width), subsequent_indent="  ")
    message = wrap(f"✗ {printable(error.message, single_line=True)}")
    remedy = wrap(f"  {printable(error.remedy, single_line=True)}")
    return [*(Content.styled(line, "$error") for line in message), *map(Content, remedy)]
