"""`demo`, `train` and `attach`: starting a run and watching it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from core.errors import UserError
from core.recipe import Recipe
from core.runs.directory import RunDirectory, find_run


@click.command()
@click.option("--headless", is_flag=True, help="Plain progress lines instead of the app.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout; no app.")
def demo(headless: bool, as_json: bool) -> int:
    """The whole journey on an embedded model and data: no account, no GPU, no hub."""
    from core import demo as journey
    from core.runs.supervisor import launch

    run = launch(journey.recipe())
    return watch_or_leave(run, plain=headless, as_json=as_json, detach=False)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Change one key.")
@click.option("--trial", is_flag=True, help="A few steps on 100 rows: what will it take?")
@click.option(
    "--auto-resume",
    is_flag=True,
    help="Go on with the run of this name if there is one, else start it.",
)
@click.option("--node-rank", type=int, help="Of several machines: which this is, from 0.")
@click.option("--main-address", metavar="HOST[:PORT]", help="Where machine 0 is reached.")
@click.option("--queue", "queued", is_flag=True, help="Begin when the runs before it have ended.")
@click.option("--detach", is_flag=True, help="Return as soon as the run lives.")
@click.option("--plain", is_flag=True, help="Plain progress lines instead of the app.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout; no app.")
def train(
    recipe: Path,
    changes: tuple[str, ...],
    trial: bool,
    auto_resume: bool,
    node_rank: int | None,
    main_address: str | None,
    queued: bool,
    detach: bool,
    plain: bool,
    as_json: bool,
) -> int:
    """Train RECIPE, a YAML file. The run goes on when this terminal closes."""
    from core.recipe import load_recipe
    from core.runs.nodes import named_for, node_of

    loaded = load_recipe(recipe).with_changes(list(changes))
    node = node_of(loaded, node_rank, main_address)
    loaded = named_for(loaded, node)
    if trial:
        from core.training.trial import as_trial

        loaded, plain = as_trial(loaded), True
    if auto_resume:
        from core.runs.auto_resume import start_or_resume

        run = start_or_resume(loaded, node)
        if not (detach or _opens_the_app(plain, as_json)):
            _pass_stop_on(run)
    else:
        from core.runs.supervisor import launch

        check_sources(loaded)
        run = launch(loaded, queued=queued, node=node)
    return watch_or_leave(run, plain=plain, as_json=as_json, detach=detach)


def _pass_stop_on(run: RunDirectory) -> None:
    """SIGTERM stops the run with a checkpoint, and this command waits for that: a scheduler or a
    container kills all that is left as soon as the command has ended."""
    import signal
    from contextlib import suppress
    from types import FrameType

    from core.runs.supervisor import stop

    def ask(number: int, frame: FrameType | None) -> None:
        with suppress(UserError):  # it has ended just now
            stop(run)

    signal.signal(signal.SIGTERM, ask)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option(
    "--main-address", default="HOST", show_default=True, help="Where machine 0 is reached."
)
def nodes(recipe: Path, main_address: str) -> int:
    """Print the command to run on each machine of RECIPE (hardware.nodes), one a line."""
    from core.recipe import load_recipe
    from core.runs.nodes import node_commands

    for line in node_commands(load_recipe(recipe), str(recipe), main_address):
        click.echo(line)
    return 0


@click.command()
@click.argument("run")
@click.option("--plain", is_flag=True, help="Plain lines instead of the app.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout at the end.")
def attach(run: str, plain: bool, as_json: bool) -> int:
    """Watch RUN: an id, the beginning of one, a folder, or `last`."""
    return _watch(find_run(run), plain=plain, as_json=as_json)


def watch_or_leave(run: RunDirectory, *, plain: bool, as_json: bool, detach: bool) -> int:
    """Attach to a run that has just been started, or say how to do that later."""
    if not detach:
        return _watch(run, plain=plain, as_json=as_json)
    if as_json:
        from core.runs.state import current_state
        from tui.follow import outcome

        click.echo(json.dumps(outcome(run, current_state(run))))
    else:
        click.echo(f"{run.id} has started. Watch it with: tunedeck attach {run.id}", err=True)
    return 0


def check_sources(recipe: Recipe) -> None:
    """Say now, not minutes later in a log, that a file of the recipe is not there."""
    from core.data.sources import check_source

    for source in [*recipe.data.train, *recipe.data.eval]:
        check_source(source)


def _watch(run: RunDirectory, *, plain: bool, as_json: bool) -> int:
    if _opens_the_app(plain, as_json):
        from tui.deck import Deck
        from tui.launch import open_app

        open_app(Deck(run=run), start="train")
        return 0
    return follow_to_the_end(run, as_json=as_json)


def _opens_the_app(plain: bool, as_json: bool) -> bool:
    from tui.launch import has_terminal

    return has_terminal() and not plain and not as_json


def follow_to_the_end(run: RunDirectory, *, as_json: bool) -> int:
    """Plain lines until the run ends; Ctrl+C leaves it running."""
    from tui.follow import follow, outcome, str_or_none

    click.echo(f"run {run.id}\n    {run.path}", err=True)
    try:
        state = follow(run)
    except KeyboardInterrupt:
        click.echo(
            f"\n{run.id} goes on. tunedeck attach {run.id} comes back to it, "
            f"tunedeck stop {run.id} ends it.",
            err=True,
        )
        return 130
    if as_json:
        click.echo(json.dumps(outcome(run, state)))
    if state.phase == "failed":
        if not as_json:
            raise UserError(str_or_none(state) or f"{run.id} failed.")
        return 1
    _say_the_end(run, state.phase)
    return 0


def _say_the_end(run: RunDirectory, phase: str) -> None:
    from core.runs.trial import read_trial, trial_lines

    trial = read_trial(run)
    if trial is not None:
        text = "\n".join(["The trial ran to its end.", *trial_lines(trial)])
    elif phase == "stopped":
        text = f"Stopped with a checkpoint. Go on with: tunedeck resume {run.id}"
    else:
        text = f"Finished. Talk to it with: tunedeck chat {run.id}"
    click.echo(text, err=True)
