"""`inspect`: what is in a file, and what a model would learn from it."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from core.errors import UserError
from core.text import printable

if TYPE_CHECKING:
    from core.data.cleaning import Cleaned
    from core.data.encoding import TrainOn
    from core.data.inspection import Inspection
    from core.data.report import Report
    from core.data.rows import Progress
    from core.data.tokenizer import Tokenizer


@click.command()
@click.argument("source", nargs=-1, required=True)
@click.option("--model", help="Count with this model's tokenizer and template.")
@click.option("--max-length", type=click.IntRange(min=8), default=1024, show_default=True)
@click.option(
    "--train-on",
    type=click.Choice(["assistant", "last", "all", "text"]),
    default="assistant",
    show_default=True,
    help="The tokens that the loss is taken on; text: all of them, in pieces (pretrain).",
)
@click.option("--map", "pairs", multiple=True, metavar="ROLE=COLUMN", help="Name a column's role.")
@click.option("--eval", "held_out", multiple=True, metavar="SOURCE",
              help="Data held out for evaluation: say what of it is in SOURCE too.")  # fmt: skip
@click.option("--exact", is_flag=True,
              help="Tokenise and compare every row, however many there are.")  # fmt: skip
@click.option("--row", "shown", type=click.IntRange(min=1), multiple=True, metavar="NUMBER",
              help="Show this row as the training sees it, instead of the report.")  # fmt: skip
@click.option("--write", type=click.Path(path_type=Path), metavar="FILE.jsonl",
              help="Save a cleaned copy, and beside it the list of what was left out.")  # fmt: skip
@click.option("--drop", multiple=True, metavar="CODE",
              help="Leave rows with this problem out of the copy as well.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def inspect(
    source: tuple[str, ...],
    model: str | None,
    max_length: int,
    train_on: Literal["assistant", "last", "all", "text"],
    pairs: tuple[str, ...],
    held_out: tuple[str, ...],
    exact: bool,
    shown: tuple[int, ...],
    write: Path | None,
    drop: tuple[str, ...],
    as_json: bool,
) -> int:
    """Look at SOURCE: a file, a folder, a glob, a hub id, or - for standard input."""
    from core.data.cleaning import check_target, save_clean
    from core.data.inspection import Inspection
    from core.data.sources import resolve
    from core.data.tokenizer import load_tokenizer
    from core.models.locate import locate_tokenizer

    unwanted = codes_to_drop(drop)
    mapping = parse_mapping(pairs)
    try:
        if write is not None:
            check_target(write)
        tokenizer = load_tokenizer(locate_tokenizer(model)) if model else None
        inspection = Inspection(
            resolve(source),
            tokenizer=tokenizer,
            max_length=max_length,
            train_on=train_on,
            mapping=mapping,
            exact=exact,
        )
        if shown:
            _tell_rows(inspection, shown, tokenizer, max_length, train_on, as_json=as_json)
            return 0
        inspection.run(_show_progress)
        if apart := held_out or inspection.held_out:
            inspection.look_for(apart, exact=exact)
        report = inspection.report
        saved = write is not None and report.error is None
        cleaned = save_clean(inspection, write, unwanted) if saved and write else None
        preview = None if as_json else _preview(inspection)
    except UserError as error:
        if not as_json:
            raise
        click.echo(json.dumps(_nothing_usable(source, error)))
        return 1
    finally:
        _show_progress(None)
    _tell(report, cleaned, preview or [], as_json=as_json)
    return 1 if report.error else 0


def _preview(inspection: Inspection) -> list[str]:
    """How the rows would read with the suggested mapping, where there is one."""
    from core.data.trial import try_mapping
    from tui.commands.report_text import trial_lines

    suggestion = inspection.recognition.suggestion
    return trial_lines(try_mapping(inspection, suggestion), suggestion) if suggestion else []


def _tell_rows(
    inspection: Inspection,
    numbers: tuple[int, ...],
    tokenizer: Tokenizer | None,
    max_length: int,
    train_on: TrainOn,
    *,
    as_json: bool,
) -> None:
    from core.data.exact import row_of, tokens_of
    from tui.commands.row_text import row_lines

    if tokenizer is None:
        raise UserError("There is no tokenizer to show the row with.", "Name one with --model.")
    rows = [
        tokens_of(row_of(inspection, number), tokenizer, max_length, train_on) for number in numbers
    ]
    if as_json:
        click.echo(
            json.dumps({"source": inspection.source.name, "rows": [asdict(r) for r in rows]})
        )
        return
    for row in rows:
        for line in row_lines(row, shutil.get_terminal_size().columns):
            click.echo(line)


def _tell(report: Report, cleaned: Cleaned | None, preview: list[str], *, as_json: bool) -> None:
    from tui.commands.report_text import cleaned_lines, report_lines

    if as_json:
        tree = report.as_json()
        if cleaned is not None:
            tree["written"] = asdict(cleaned) | {
                "file": str(cleaned.file), "list": str(cleaned.list)
            }  # fmt: skip
        click.echo(json.dumps(tree))  # in ASCII: a terminal may show it
        return
    lines = report_lines(report) + preview
    lines += cleaned_lines(cleaned) if cleaned is not None else []
    click.echo("\n".join(_wrapped(printable("\n".join(lines)).split("\n"))))
    if report.error:
        raise UserError(report.error)


def _wrapped(lines: list[str]) -> list[str]:
    """Sentences broken between words where a person reads them; programs get whole lines."""
    if not sys.stdout.isatty():
        return lines
    width = max(40, shutil.get_terminal_size().columns - 1)
    wrapped = []
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        wrapped += textwrap.wrap(line, width, subsequent_indent=indent) or [""]
    return wrapped


def _show_progress(progress: Progress | None) -> None:
    """One line that is written over, where a person watches; None wipes it."""
    if not sys.stderr.isatty():
        return
    from tui.commands.report_text import progress_line

    text = "" if progress is None or progress.ended else progress_line(progress)
    click.echo(f"\r\x1b[2K{text}", err=True, nl=False)


def parse_mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    """`role=column` words as a mapping."""
    mapping = {}
    for pair in pairs:
        role, separator, column = pair.partition("=")
        if not separator or not role or not column:
            raise click.BadParameter(f"“{pair}” is not role=column", param_hint="--map")
        mapping[role] = column
    return mapping


def codes_to_drop(more: tuple[str, ...]) -> tuple[str, ...]:
    """The problems for which rows are left out of a copy: the usual ones and `more`."""
    from core.data.cleaning import DROPPED
    from core.data.problems import CODES

    for code in more:
        if code not in CODES:
            hint = f"the codes are {', '.join(CODES)}"
            raise click.BadParameter(f"“{code}” is no problem's code: {hint}", param_hint="--drop")
    return (*DROPPED, *more)


def _nothing_usable(source: tuple[str, ...], error: UserError) -> dict[str, Any]:
    """The promised object for a source that cannot be opened at all."""
    from core.data.report import Report

    return Report(" ".join(source), "unknown", 0, 0, error=str(error)).as_json()
