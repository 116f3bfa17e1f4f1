"""`estimate`: how much memory one model and method need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from core.errors import UserError
from core.methods import METHODS, MethodName
from core.text import printable
from core.units import bytes_text
from tui.commands.planning_options import check_shared, json_option, shared_options

if TYPE_CHECKING:
    from core.memory.prediction import Prediction
    from core.memory.setup import Setup
    from core.memory.stages import Stages
    from core.models.catalogue import ModelShape


@click.command()
@shared_options(
    model={"required": True},
    method={"required": True},
    objective={"default": "sft", "show_default": True},
    seq_length={"default": 1024, "show_default": True},
)
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
@click.option("--simulate", is_flag=True, help="Run the step without data: seconds, not formula.")
@json_option
def estimate(model: str, method: MethodName, simulate: bool, as_json: bool, **choices: Any) -> None:
    """Predict the peak memory of one model and method, as NVML will show it; of several GPUs, the
    fullest."""
    from core.memory import formula, simulated
    from core.memory.sharding import assumptions
    from core.memory.stages import stages
    from core.models.cards import card_anywhere
    from core.planning.as_json import estimate_as_json
    from core.planning.known_memory import as_measured_here

    card = card_anywhere(model)
    setup = _setup(card.shape, method, choices)
    prediction = simulated.simulate(setup) if simulate else formula.predict_setup(setup)
    prediction = as_measured_here(setup, prediction)
    of_run = stages(setup, prediction)
    assumed = "; ".join(filter(None, (card.caveat, assumptions(setup))))
    if as_json:
        tree = estimate_as_json(model, method, prediction, of_run)
        click.echo(json.dumps({**tree, "assumed": assumed}))
    else:
        lines = [*prediction_lines(prediction), *([f"  {assumed}"] if assumed else [])]
        click.echo(printable("\n".join([*lines, *stage_lines(of_run)])))


def _setup(shape: ModelShape, method: MethodName, choices: dict[str, Any]) -> Setup:
    """What was asked for, with all that contradicts itself refused."""
    from core.memory.setup import Setup
    from core.memory.sharding import check_sharding
    from core.methods import refusal

    bits = int(choices.pop("bits") or 0) or None
    if why := refusal(method, bits):  # type: ignore[arg-type]
        raise UserError(f"{why}.")
    check_shared(choices["gpus"], choices["sharding"])
    targets = choices.pop("targets")
    accumulates = choices.pop("gradient_accumulation") > 1
    setup = Setup(
        shape,
        method,
        targets=tuple(targets.split(",")) if "," in targets else targets,
        accumulates=accumulates,
        bits=bits,  # type: ignore[arg-type]
        **choices,
    )
    check_sharding(setup)
    if METHODS[method].kind == "adapter":
        _check_targets(setup)
    if method == "last-layers" and setup.layers > shape.layers:
        raise UserError(
            f"This model has {shape.layers} layers, not {setup.layers}.", "Lower --layers."
        )
    return setup


def _check_targets(setup: Setup) -> None:
    """UserError where the model lacks one of the layers, as the trainer will say."""
    from core.memory.trainable import adapted_linears
    from core.models.families import linears

    there = [each.name for each in linears(setup.shape)]
    named = setup.targets if isinstance(setup.targets, tuple) else ()
    absent = [name for name in named if name not in there]
    if absent or not adapted_linears(setup.shape, setup.method, setup.targets):
        raise UserError(
            f"This model has no layer called {', '.join(absent) or setup.targets}.",
            f"Its layers are {', '.join(there)}; or give all-linear, attention or attention-all.",
        )


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
