"""`doctor`: is this machine ready, and what to do where it is not."""

from __future__ import annotations

import json

import click

from core.text import printable

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
    width = max(len(finding.what) for finding in findings)
    for finding in findings:
        line = f"{MARKS[finding.verdict]} {finding.what:<{width}}  {finding.detail}"
        click.echo(printable(line, single_line=True))
        if finding.remedy:
            click.echo(printable(f"  {'':<{width}}  → {finding.remedy}", single_line=True))
    return int(bad)
