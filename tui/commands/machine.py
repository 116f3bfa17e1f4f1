"""`doctor`: is this machine ready, and what to do where it is not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING

import click

from core.text import printable

if TYPE_CHECKING:
    from core.hardware.findings import Finding

LEAST_WORDS = 16
"""So many cells are left to the words, however narrow the terminal is."""
MARKS = {"ok": "✓", "warning": "!", "bad": "✗"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def doctor(as_json: bool) -> int:
    """Check the machine and the installation."""
    from core.hardware.doctor import as_json as tree_of
    from core.hardware.doctor import examine

    findings = examine()
    bad = any(finding.verdict == "bad" for finding in findings)
    if as_json:
        click.echo(json.dumps(tree_of(findings)))
        return int(bad)
    click.echo("\n".join(finding_lines(findings, get_terminal_size().columns)))
    return int(bad)


def finding_lines(findings: Sequence[Finding], columns: int) -> list[str]:
    """Each finding under its name, its remedy below it, wrapped to the terminal."""
    width = max(len(finding.what) for finding in findings)
    lines = []
    for finding in findings:
        head = f"{MARKS[finding.verdict]} {finding.what:<{width}}  "
        lines += _wrapped(head, finding.detail, columns)
        if finding.remedy:
            lines += _wrapped(f"{'':{width + 4}}→ ", finding.remedy, columns)
    return lines


def _wrapped(head: str, text: str, columns: int) -> list[str]:
    return wrap(
        printable(text, single_line=True),
        max(len(head) + LEAST_WORDS, columns),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_on_hyphens=False,
        break_long_words=False,
    )
