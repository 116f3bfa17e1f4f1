"""`inspect`: what is in a file, and what a model would learn from it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal

import click

from core.errors import UserError
from core.text import printable
from core.units import count_text

if TYPE_CHECKING:
    from core.data.report import Problem, Report, TokenStatistics

MARKS = {"error": "✗", "warning": "!", "info": "·"}


@click.command()
@click.argument("source", nargs=-1, required=True)
@click.option("--model", help="Count with this model's tokenizer and template.")
@click.option("--max-length", type=click.IntRange(min=8), default=1024, show_default=True)
@click.option(
    "--train-on",
    type=click.Choice(["assistant", "last", "all"]),
    default="assistant",
    show_default=True,
    help="The tokens that the loss is taken on.",
)
@click.option("--map", "pairs", multiple=True, metavar="ROLE=COLUMN", help="Name a column's role.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def inspect(
    source: tuple[str, ...],
    model: str | None,
    max_length: int,
    train_on: Literal["assistant", "last", "all"],
    pairs: tuple[str, ...],
    as_json: bool,
) -> int:
    """Look at SOURCE: a file, a folder, a glob or a hub id."""
    from core.data.inspection import inspect as inspect_sources
    from core.data.tokenizer import load_tokenizer
    from core.models.locate import locate_tokenizer

    tokenizer = load_tokenizer(locate_tokenizer(model)) if model else None
    try:
        report = inspect_sources(
            list(source),
            tokenizer=tokenizer,
            max_length=max_length,
            train_on=train_on,
            mapping=parse_mapping(pairs),
        )
    except UserError as error:
        if not as_json:
            raise
        click.echo(json.dumps(_nothing_usable(source, error)))
        return 1
    if as_json:
        click.echo(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        click.echo(printable("\n".join(report_lines(report))))
    if report.error and not as_json:
        raise UserError(report.error)
    return 1 if report.error else 0


def parse_mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    """`role=column` words as a mapping."""
    mapping = {}
    for pair in pairs:
        role, separator, column = pair.partition("=")
        if not separator or not role or not column:
            raise click.BadParameter(f"“{pair}” is not role=column", param_hint="--map")
        mapping[role] = column
    return mapping


def _nothing_usable(source: tuple[str, ...], error: UserError) -> dict[str, object]:
    """The promised object for a source that cannot be opened at all."""
    return {
        "source": " ".join(source),
        "format": "unknown",
        "rows": 0,
        "usable": 0,
        "error": str(error),
        "tokens": None,
        "problems": [],
    }


def report_lines(report: Report) -> list[str]:
    """The report for people."""
    lines = [
        f"{report.source}",
        f"  format   {report.format}",
        f"  rows     {count_text(report.rows)}, {count_text(report.usable)} usable",
    ]
    for reason, count in report.ledger.items():
        lines.append(f"           {count_text(count):>9}  {reason}")
    lines += _token_lines(report.tokens)
    if report.problems:
        lines += ["", "Problems"]
    for problem in report.problems:
        lines += _problem_lines(problem)
    return lines


def _token_lines(tokens: TokenStatistics | None) -> list[str]:
    if tokens is None:
        return ["  tokens   not counted (--model chooses the tokenizer)"]
    share = tokens.trained / tokens.total if tokens.total else 0
    return [
        f"  tokens   {count_text(tokens.total)}, "
        f"{count_text(tokens.trained)} trained ({share:.0%})",
        f"  a row    p50 {tokens.p50}  p95 {tokens.p95}  p99 {tokens.p99}  max {tokens.max}"
        f"  truncated rows {tokens.truncated_rows}",
    ]


def _problem_lines(problem: Problem) -> list[str]:
    rows = ", ".join(str(row) for row in problem.rows[:8])
    more = "…" if problem.count > 8 else ""
    where = f" (row {rows}{more})" if rows else ""
    lines = [f"  {MARKS[problem.severity]} {problem.code} × {problem.count}{where}"]
    lines.append(f"    {problem.message} {problem.remedy}".rstrip())
    return lines
