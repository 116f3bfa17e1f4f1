"""`evaluate`, `chat` and `export`: what comes after training."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from core.errors import UserError
from core.runs.directory import RunDirectory, find_run


@click.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def evaluate(run: str, as_json: bool) -> int:
    """Measure RUN's base and tuned model on rows the training never saw."""
    from core.evaluation.client import evaluate_run
    from tui.follow import Narrator

    found = find_run(run)
    narrator = Narrator(quiet=as_json)
    results = evaluate_run(found, on_event=lambda event: narrator.tell([event]))
    if as_json:
        click.echo(json.dumps(results))
    return 0


@click.command()
@click.argument("subject", metavar="RUN|MODEL")
@click.option("--compare", is_flag=True, help="The untuned model answers beside it.")
@click.option("--prompt", help="Answer this and end, without the app.")
@click.option("--system", help="A system message.")
@click.option("--temperature", type=click.FloatRange(0, 5), default=0.0, show_default=True)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
def chat(
    subject: str,
    compare: bool,
    prompt: str | None,
    system: str | None,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> int:
    """Talk to the merged model of RUN, or to a model by folder or hub id."""
    from tui.launch import has_terminal, open_app

    run = run_or_none(subject)
    if run is not None and prompt is None and has_terminal():
        from tui.deck import Deck

        open_app(Deck(run=run), start="chat")
        return 0
    from tui.talk import talk

    prompts = [prompt] if prompt is not None else (line.rstrip("\n") for line in sys.stdin)
    talk(
        run or subject,
        prompts,
        compare=compare,
        system=system,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    return 0


def run_or_none(subject: str) -> RunDirectory | None:
    """The run of this name; None when it looks like a model instead."""
    try:
        return find_run(subject)
    except UserError:
        if "/" in subject or Path(subject).exists():
            return None
        raise


@click.command()
@click.argument("subject", metavar="RUN|RECIPE")
@click.option(
    "--to",
    "kind",
    type=click.Choice(["merged", "script", "slurm", "skypilot"]),
    required=True,
    help="The tuned model, or a job that trains a recipe on a cluster or in a cloud.",
)
@click.option("--gpu", help="skypilot: the accelerator to rent, as SkyPilot calls it.")
@click.option("--volume", help="skypilot: the volume that keeps the run when a machine is lost.")
@click.option(
    "--destination", type=click.Path(path_type=Path), help="Default: export/ in the run's folder."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def export(
    subject: str,
    kind: str,
    gpu: str | None,
    volume: str | None,
    destination: Path | None,
    as_json: bool,
) -> int:
    """Write RUN's tuned model where other programs read it, or RECIPE as a job for a cluster."""
    if kind in ("slurm", "skypilot"):
        from core.export.cluster import write_job

        path = write_job(subject, kind, destination, gpu=gpu, volume=volume)
    else:
        from core.export.exporting import export as export_run

        path = export_run(find_run(subject), kind, destination)
    if as_json:
        click.echo(json.dumps({"path": str(path), "to": kind}))
    else:
        click.echo(f"Written to {path}", err=True)
    return 0
