"""`runs`, `stop`, `resume` and `remove`."""

from __future__ import annotations

import json
import time

import click

from core.runs.directory import find_run
from core.text import clip
from core.units import MISSING, count_text, duration_text, number_text


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def runs(as_json: bool) -> None:
    """List the runs, newest first."""
    from core.runs.supervisor import list_runs
    from tui.follow import summary

    found = list_runs()
    if as_json:
        click.echo(json.dumps({"runs": [summary(item.run, item.state) for item in found]}))
        return
    if not found:
        click.echo("No runs yet. `tunedeck demo` makes one.", err=True)
    for item in found:
        state = item.state
        steps = f"{state.step}/{count_text(state.total_steps)}" if state.total_steps else MISSING
        waits = state.phase == "preparing" and state.stage
        age = duration_text(time.time() - state.created)
        click.echo(
            f"{clip(item.id, 44):<44}  {waits or state.phase:<9}  {steps:>11}  "
            f"loss {number_text(state.loss):>6}  held-out {number_text(state.eval_loss):>6}  "
            f"{age:>11} ago"
        )


@click.command()
@click.argument("run")
@click.option("--now", is_flag=True, help="Kill it; what came after the last checkpoint is lost.")
@click.option("--wait/--no-wait", default=True, help="Return when it has ended (the default).")
def stop(run: str, now: bool, wait: bool) -> int:
    """Stop RUN: it writes a checkpoint and ends."""
    from core.runs.state import current_state
    from core.runs.supervisor import stop as stop_run

    found = find_run(run)
    stop_run(found, now=now)
    while wait and current_state(found).alive:
        time.sleep(0.1)
    phase = current_state(found).phase
    click.echo(f"{found.id}: {phase}.", err=True)
    return 0


@click.command()
@click.argument("run")
@click.option("--detach", is_flag=True, help="Return as soon as the run lives.")
@click.option("--plain", is_flag=True, help="Plain progress lines instead of the app.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout at the end.")
def resume(run: str, detach: bool, plain: bool, as_json: bool) -> int:
    """Go on with RUN from its last complete checkpoint, on the same rows."""
    from core.runs.supervisor import resume as resume_run
    from tui.commands.journey import watch_or_leave

    found = find_run(run)
    resume_run(found)
    return watch_or_leave(found, plain=plain, as_json=as_json, detach=detach)


@click.command()
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(run: str, yes: bool) -> None:
    """Delete RUN with its checkpoints and models."""
    from core.runs.supervisor import remove as remove_run

    found = find_run(run)
    if not yes:
        click.confirm(f"Delete {found.path} with all its models?", abort=True, err=True)
    remove_run(found)
    click.echo(f"{found.id} is gone.", err=True)
