"""`plan` and `estimate`: what fits, how long it takes, what it costs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.errors import UserError, describe_os_error
from core.methods import METHODS, MethodName
from core.text import clip, printable
from core.units import bytes_text, dollars_text, duration_text, parse_bytes, span_text

if TYPE_CHECKING:
    from core.data.report import Report
    from core.memory.prediction import Prediction
    from core.memory.setup import Setup
    from core.memory.stages import Stages
    from core.planning.calibration import Measurement
    from core.planning.candidates import Candidate, Plan
    from core.recipe import Recipe

MOST_OFFERS_PRINTED = 8
MOST_CANDIDATES_PRINTED = 20


class Memory(click.ParamType[int]):
    """An amount of memory: `24GiB`."""

    name = "memory"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_bytes(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option("--model", required=True, help="A hub id or a local folder.")
@click.option("--method", type=click.Choice(list(METHODS)), required=True)
@click.option("--bits", type=click.Choice(["4", "8", "16"]), help="Of the base's weights.")
@click.option("--rank", type=click.IntRange(1, 1024), default=16, show_default=True)
@click.option(
    "--targets",
    default="all-linear",
    show_default=True,
    help="Or attention, attention-all, or names with commas between.",
)
@click.option(
    "--layers", type=click.IntRange(1), default=2, show_default=True, help="last-layers: how many."
)
@click.option(
    "--virtual-tokens",
    type=click.IntRange(1, 1024),
    default=20,
    show_default=True,
    help="prefix, prompt, p-tuning: how many.",
)
@click.option(
    "--objective",
    type=click.Choice(["sft", "pretrain", "dpo", "kto", "orpo"]),
    default="sft",
    show_default=True,
)
@click.option("--seq-length", type=click.IntRange(8, 10_000_000), default=1024, show_default=True)
@click.option("--micro-batch", type=click.IntRange(1, 1_000_000), default=1, show_default=True)
@click.option("--gradient-accumulation", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--optimizer",
    type=click.Choice(["adamw", "adamw-8bit", "paged-adamw-8bit", "sgd"]),
    default="adamw",
    show_default=True,
)
@click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), default=0.0)
@click.option("--gradient-checkpointing/--no-gradient-checkpointing", default=True)
@click.option(
    "--gpus",
    type=click.IntRange(1, 100_000),
    default=1,
    show_default=True,
    help="That train together, those of all machines.",
)
@click.option(
    "--sharding",
    type=click.Choice(["auto", "ddp", "fsdp", "zero3"]),
    default="auto",
    show_default=True,
    help="A copy on each GPU (ddp, auto), or parts.",
)
@click.option("--simulate", is_flag=True, help="Run the step without data: seconds, not formula.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def estimate(model: str, method: MethodName, simulate: bool, as_json: bool, **choices: Any) -> None:
    """Predict the peak memory of one model and method, as NVML will show it; of several GPUs, the
    fullest."""
    from core.memory import formula, simulated
    from core.memory.stages import stages
    from core.planning.as_json import estimate_as_json
    from core.planning.known_memory import as_measured_here

    setup = _setup(model, method, choices)
    prediction = simulated.simulate(setup) if simulate else formula.predict_setup(setup)
    prediction = as_measured_here(setup, prediction)
    of_run = stages(setup, prediction)
    if as_json:
        click.echo(json.dumps(estimate_as_json(model, method, prediction, of_run)))
    else:
        click.echo(printable("\n".join([*prediction_lines(prediction), *stage_lines(of_run)])))


def _setup(model: str, method: MethodName, choices: dict[str, Any]) -> Setup:
    """What was asked for, with all that contradicts itself refused."""
    from core.memory.setup import Setup
    from core.memory.sharding import check_sharding
    from core.memory.trainable import adapted_linears
    from core.methods import refusal
    from core.models.catalogue import card_for
    from core.models.families import linears

    bits = int(choices.pop("bits") or 0) or None
    if why := refusal(method, bits):  # type: ignore[arg-type]
        raise UserError(f"{why}.")
    if choices["gpus"] == 1 and choices["sharding"] in ("fsdp", "zero3"):
        raise UserError(
            f"--sharding {choices['sharding']} splits the model over several GPUs.", "Give --gpus."
        )
    targets = choices.pop("targets")
    accumulates = choices.pop("gradient_accumulation") > 1
    setup = Setup(
        card_for(model).shape,
        method,
        targets=tuple(targets.split(",")) if "," in targets else targets,
        accumulates=accumulates,
        bits=bits,  # type: ignore[arg-type]
        **choices,
    )
    check_sharding(setup)
    adapted = adapted_linears(setup.shape, method, setup.targets)
    if METHODS[method].kind == "adapter" and not adapted:
        names = ", ".join(each.name for each in linears(setup.shape))
        raise UserError(
            f"This model has no layer called {targets}.",
            f"Its layers are {names}; or give all-linear, attention or attention-all.",
        )
    return setup


HOW = {"formula": "by formula", "simulated": "simulated", "measured": "measured"}


def prediction_lines(prediction: Prediction) -> list[str]:
    """The parts and their sum, with the interval."""
    parts = prediction.parts
    lines = [f"  {name:<12}{bytes_text(getattr(parts, name)):>12}" for name in parts.__slots__]
    interval = f"{bytes_text(prediction.low)} to {bytes_text(prediction.high)}"
    lines.append(
        f"  {'peak':<12}{bytes_text(prediction.peak):>12}  ({interval}, {HOW[prediction.how]})"
    )
    lines.append(
        f"  of which torch allocates {bytes_text(prediction.allocated)} and reserves "
        f"{bytes_text(prediction.reserved)}"
    )
    return [*lines, *([f"  {prediction.note}"] if prediction.note else [])]


def stage_lines(of_run: Stages) -> list[str]:
    """Where another stage of the run may need more than the step."""
    lines = []
    if of_run.evaluate > of_run.train:
        lines.append(
            f"  measuring held-out rows takes up to {bytes_text(of_run.evaluate)}, if every token "
            "of them is trained on"
        )
    if of_run.merge:
        lines.append(
            f"  merging takes {bytes_text(of_run.merge)} of the GPU, or else of RAM, afterwards"
        )
    return lines


@click.command()
@click.argument("source", nargs=-1, required=True)
@click.option("--model", help="Plan for this model only.")
@click.option("--vram", type=Memory(), help="Plan for this much free memory, like 24GiB.")
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
@click.option("--write", type=click.Path(path_type=Path), help="Write the recommended recipe.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def plan(
    source: tuple[str, ...],
    model: str | None,
    vram: int | None,
    gpu: str | None,
    price: float | None,
    preset: str | None,
    held_out: tuple[str, ...],
    write: Path | None,
    as_json: bool,
) -> int:
    """Show what fits for the rows of SOURCE: models × methods, time and money."""
    from core.data.sources import check_source
    from core.hardware.readings import read_machine
    from core.models.catalogue import card_for
    from core.planning.as_json import plan_as_json
    from core.planning.learning import measurements
    from core.planning.planner import plan as make_plan
    from core.planning.presets import load_preset

    recipe = load_preset(preset) if preset else None
    for file in held_out:
        check_source(file)
    report = _counted(source, recipe.model.id if recipe else model)
    assert report.tokens is not None
    measured = measurements()
    found = make_plan(
        read_machine(),
        rows=report.usable,
        tokens_per_row=report.tokens.total / max(1, report.usable),
        p95=report.tokens.p95,
        max_tokens=report.tokens.max,
        models=[card_for(model)] if model else None,
        dollars_per_hour=price,
        free_bytes=vram,
        gpu=gpu,
        cut_at=report.tokens.cut_at,
        measured=measured,
        recipe=recipe,
    )
    _remember(price, found)
    if write is not None:
        _write(write, found, source, held_out, report.usable, recipe)
    if as_json:
        click.echo(json.dumps(plan_as_json(found, measured)))
    else:
        click.echo(printable("\n".join([*plan_lines(found), *elsewhere_lines(found, measured)])))
    return 0 if found.recommended is not None else 1


def _counted(source: tuple[str, ...], model: str | None) -> Report:
    """The report with tokens: by the model's own tokenizer, else by that of the demo's model."""
    from core.data.inspection import inspect
    from core.data.tokenizer import load_tokenizer
    from core.models.embedded import MODEL_ID
    from core.models.locate import locate_tokenizer

    tokenizer = load_tokenizer(locate_tokenizer(model or MODEL_ID))
    report = inspect(list(source), tokenizer=tokenizer, max_length=1_000_000)
    if report.error:
        raise UserError(report.error)
    return report


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
) -> None:
    """The recommended recipe, or the preset's with this data."""
    from core.planning.presets import with_data
    from core.planning.recipes import recipe_for
    from core.runs.directory import write_atomically

    if plan.recommended is None:
        raise UserError("Nothing fits, so there is no recipe to write.", _way_out(plan))
    recipe = recipe_for(
        plan.candidates[plan.recommended],
        name=Path(source[0]).stem,
        sources=[_absolute(one) for one in source],
        eval_sources=[_absolute(one) for one in held_out],
        rows=rows,
    )
    recipe = with_data(preset, recipe) if preset else recipe
    try:
        write_atomically(path, recipe.to_yaml())
    except OSError as error:
        raise describe_os_error(error, "write the recipe") from error
    click.echo(f"Recipe written to {path}. Start it with: tunedeck train {path}", err=True)


def _absolute(source: str) -> str:
    return str(Path(source).resolve()) if Path(source).exists() else source


def _way_out(plan: Plan) -> str:
    return plan.levers[0].text if plan.levers else "Choose a smaller model."


def plan_lines(plan: Plan) -> list[str]:
    """The table for people: what fits first."""
    free = "" if "free" in plan.device else f", {bytes_text(plan.free_bytes)} free"
    lines = [f"{plan.device}{free}", plan.note, ""]
    head = f"  {'model':<40} {'method':<6} {'batch':>7} {'length':>6} {'peak':>10}  {'fits':<4}"
    lines.append(f"{head} {'time':>13} {'money':>8}")
    shown = plan.candidates[:MOST_CANDIDATES_PRINTED]
    lines += [_row(one, number == plan.recommended) for number, one in enumerate(shown)]
    if len(plan.candidates) > len(shown):
        lines.append(f"  and {len(plan.candidates) - len(shown)} more (--json has all)")
    if plan.recommended is not None:
        star = plan.candidates[plan.recommended]
        lines += ["", f"★ {star.why}", *_range_lines(star)]
    for lever in plan.levers:
        lines.append(f"→ {lever.text}: saves {bytes_text(lever.saves)}, {lever.costs}")
    return lines


def _range_lines(star: Candidate) -> list[str]:
    """Between what its time and cost lie, and how well that is known."""
    if star.seconds is None:
        return []
    from core.planning.calibration import pace_text

    span = span_text(star.seconds_low, star.seconds_high)
    price = star.basis.dollars_per_hour
    cost = f", at ${price:g} an hour" if price is not None else ""
    return [f"  {span}{cost}; the speed is {pace_text(star.pace)}"]


def elsewhere_lines(plan: Plan, measured: Sequence[Measurement]) -> list[str]:
    """The first candidate's run on GPUs that one could rent, and at managed services."""
    from core.planning.elsewhere import managed, rented
    from core.planning.gpus import prices_dated

    if not plan.candidates:
        return []
    subject = plan.candidates[plan.recommended or 0]
    offers = [one for one in rented(subject, measured) if one.fits][:MOST_OFFERS_PRINTED]
    lines = [
        "",
        f"{subject.model.id} with {subject.method} elsewhere (rents as of {prices_dated()})",
    ]
    for offer in offers:
        money = dollars_text(*offer.dollars)
        lines.append(f"  {offer.gpu.name:<36} {span_text(*offer.seconds):>16}  {money}")
    for service in managed(subject):
        name = f"{service.service} ({service.models})"
        lines.append(f"  {name:<53}  {dollars_text(*service.dollars)} as of {service.dated}")
    return lines


def _row(candidate: Candidate, starred: bool) -> str:
    batch = f"{candidate.micro_batch}×{candidate.gradient_accumulation}"
    money = "–" if candidate.dollars is None else f"${candidate.dollars:.2f}"
    return (
        f"{'★' if starred else ' '} {clip(candidate.model.id, 40):<40} {candidate.method:<6} "
        f"{batch:>7} {candidate.seq_length:>6} {bytes_text(candidate.prediction.peak):>10}  "
        f"{'yes' if candidate.fits else 'no':<4} {duration_text(candidate.seconds):>13} {money:>8}"
    )
