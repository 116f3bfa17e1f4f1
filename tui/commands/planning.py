"""`estimate`: how much memory one model and method need."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from core.units import bytes_text

if TYPE_CHECKING:
    from core.memory.prediction import Prediction


@click.command()
@click.option("--model", required=True, help="A hub id or a local folder.")
@click.option("--method", type=click.Choice(["lora", "qlora", "full"]), required=True)
@click.option("--rank", type=click.IntRange(1, 1024), default=16, show_default=True)
@click.option("--targets", default="all-linear", show_default=True, help="Or attention, or names.")
@click.option("--seq-length", type=click.IntRange(min=8), default=1024, show_default=True)
@click.option("--micro-batch", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--optimizer", type=click.Choice(["adamw", "adamw-8bit", "paged-adamw-8bit", "sgd"]),
    default="adamw", show_default=True,
)  # fmt: skip
@click.option("--gradient-checkpointing/--no-gradient-checkpointing", default=True)
@click.option("--simulate", is_flag=True, help="Run the step without data: seconds, not formula.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def estimate(
    model: str,
    method: str,
    rank: int,
    targets: str,
    seq_length: int,
    micro_batch: int,
    optimizer: str,
    gradient_checkpointing: bool,
    simulate: bool,
    as_json: bool,
) -> None:
    """Predict the peak memory of one model and method, as NVML will show it."""
    from core.memory import formula, simulated
    from core.memory.setup import Setup
    from core.models.catalogue import card_for
    from core.planning.as_json import estimate_as_json

    setup = Setup(
        card_for(model).shape,
        method,
        rank,
        tuple(targets.split(",")) if "," in targets else targets,
        micro_batch,
        seq_length,
        gradient_checkpointing,
        optimizer,
    )
    prediction = simulated.simulate(setup) if simulate else formula.predict_setup(setup)
    if as_json:
        click.echo(json.dumps(estimate_as_json(model, method, prediction)))
    else:
        click.echo("\n".join(prediction_lines(prediction)))


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
