"""`plan`: what fits, how long it takes, what it costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from core.errors import UserError, describe_os_error
from core.text import printable
from tui.commands.data import parse_mapping
from tui.commands.plan_text import elsewhere_lines, plan_lines
from tui.commands.planning_options import Memory, check_shared, json_option, shared_options

if TYPE_CHECKING:
    from core.data.report import Report
    from core.memory.setup import Sharding
    from core.methods import MethodName
    from core.objectives import ObjectiveName
    from core.planning.candidates import Plan
    from core.recipe import Recipe


@click.command()
@click.argument("source", nargs=-1, required=True)
@shared_options(
    model={"help": "Plan for this model only: every choice that none beats."},
    method={
        "multiple": True,
        "help": "Plan for this method; may be given several times.",
    },
    objective={"help": "What the model is made better at; by default what the rows are for."},
    seq_length={"help": "Cut rows at so many tokens."},
    gpus={"type": click.IntRange(1, 64), "help": "How many of them train together."},
)
@click.option(
    "--vram",
    type=Memory(),
    help="Plan for this much free memory, like 24GiB; with --gpu also in time and money.",
)
@click.option("--gpu", help="Plan for this GPU, like “RTX 4090”.")
@click.option(
    "--price",
    "--dollars-per-hour",
    "price",
    type=click.FloatRange(min=0, max=99_999),
    help="What the machine costs in dollars an hour; remembered for this kind of GPU.",
)
@click.option("--preset", metavar="NAME", help="Plan only this preset's recipe.")
@click.option(
    "--presets",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda context, option, wanted: _list_presets(context) if wanted else None,
    help="List the presets, yours first.",
)
@click.option(
    "--eval",
    "held_out",
    multiple=True,
    metavar="FILE",
    help="Held-out rows for the recipe, instead of a share of SOURCE.",
)
@click.option("--map", "pairs", multiple=True, metavar="ROLE=COLUMN", help="Name a column's role.")
@click.option("--write", type=click.Path(path_type=Path), help="Write the recommended recipe.")
@json_option
def plan(
    source: tuple[str, ...],
    model: str | None,
    method: tuple[MethodName, ...],
    objective: ObjectiveName | None,
    seq_length: int | None,
    vram: int | None,
    gpu: str | None,
    gpus: int,
    sharding: Sharding,
    price: float | None,
    preset: str | None,
    held_out: tuple[str, ...],
    pairs: tuple[str, ...],
    write: Path | None,
    as_json: bool,
) -> int:
    """Show what fits for the rows of SOURCE: models × methods, time and money."""
    from core.data.sources import check_source
    from core.hardware.readings import read_machine
    from core.models.cards import card_anywhere
    from core.planning.as_json import plan_as_json
    from core.planning.data import size_of
    from core.planning.learning import measurements
    from core.planning.planner import plan as make_plan
    from core.planning.presets import load_preset

    check_shared(gpus, sharding)
    mapping = parse_mapping(pairs)
    recipe = load_preset(preset) if preset else None
    for file in held_out:
        check_source(file)
    report = _counted(source, recipe.model.id if recipe else model, mapping)
    measured = measurements()
    found = make_plan(
        read_machine(),
        size_of(report),
        models=[card_anywhere(model)] if model else None,
        methods=method,
        objective=objective,
        seq_length=seq_length,
        dollars_per_hour=price,
        free_bytes=vram,
        gpu=gpu,
        gpus=gpus,
        sharding=sharding,
        measured=measured,
        recipe=recipe,
    )
    _remember(price, found)
    held_out = held_out or report.held_out
    _tell_parts(report)
    if write is not None:
        _write(write, found, source, held_out, report.usable, recipe, mapping)
    if as_json:
        click.echo(json.dumps(plan_as_json(found, measured)))
    else:
        click.echo(printable("\n".join([*plan_lines(found), *elsewhere_lines(found, measured)])))
    return 0 if found.recommended is not None else 1


def _counted(source: tuple[str, ...], model: str | None, mapping: dict[str, str]) -> Report:
    """The report with tokens: by the model's own tokenizer where it can be had, else by that of
    the demo's model."""
    from core.data.inspection import inspect
    from core.data.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(_tokenizer_folder(model))
    report = inspect(list(source), tokenizer=tokenizer, max_length=1_000_000, mapping=mapping)
    if report.error:
        raise UserError(report.error)
    return report


def _tokenizer_folder(model: str | None) -> Path:
    from core.models.embedded import MODEL_ID
    from core.models.locate import locate_tokenizer

    if model is not None:
        try:
            return locate_tokenizer(model)
        except UserError as error:
            note = f"{error.message} Tokens are counted with {MODEL_ID}'s tokenizer instead."
            click.echo(printable(note), err=True)
    return locate_tokenizer(MODEL_ID)


def _tell_parts(report: Report) -> None:
    """Which files and lists are not trained on, and which are against their names."""
    from core.data.prepared import ABOUT_NAMES

    for problem in report.problems:
        if problem.code in ABOUT_NAMES:
            click.echo(printable(f"{problem.message} {problem.remedy}"), err=True)


def _remember(price: float | None, plan: Plan) -> None:
    from core.planning.prices import remember_price

    if price is not None and plan.basis is not None and plan.basis.device:
        remember_price(plan.basis.device, price)


def _list_presets(context: click.Context) -> None:
    from core.planning.presets import presets

    for one in presets():
        whose = "yours" if one.own else ""
        click.echo(printable(f"{one.name:<24} {whose:<6} {one.path}"))
    context.exit(0)


def _write(
    path: Path,
    plan: Plan,
    source: tuple[str, ...],
    held_out: tuple[str, ...],
    rows: int,
    preset: Recipe | None,
    mapping: dict[str, str],
) -> None:
    """The recommended recipe, or the preset's with this data."""
    from core.planning.presets import with_data
    from core.planning.recipes import recipe_for, with_sources
    from core.planning.sources import sources
    from core.runs.directory import write_atomically

    if plan.recommended is None:
        raise UserError("Nothing fits, so there is no recipe to write.", _way_out(plan))
    star = plan.candidates[plan.recommended]
    recipe = recipe_for(
        star,
        name=Path(source[0]).stem,
        sources=[_absolute(one) for one in source],
        eval_sources=[_absolute(one) for one in held_out],
        mapping=mapping,
        rows=rows,
    )
    text = with_sources(recipe, sources(star))
    if preset:
        text = with_data(preset, recipe).to_yaml()
    try:
        write_atomically(path, text)
    except OSError as error:
        raise describe_os_error(error, "write the recipe") from error
    click.echo(f"Recipe written to {path}. Start it with: tunedeck train {path}", err=True)


def _absolute(source: str) -> str:
    there = Path(source).exists() or Path(source).parent.is_file()  # a list in a file
    return str(Path(source).resolve()) if there else source


def _way_out(plan: Plan) -> str:
    return plan.levers[0].text if plan.levers else "Choose a smaller model."
