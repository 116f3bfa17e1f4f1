"""`calibrate`: how fast this machine trains, measured."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from core.text import printable

if TYPE_CHECKING:
    from core.planning.calibrating import Failed
    from core.planning.calibration import Measurement


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def calibrate(as_json: bool) -> int:
    """Time real steps of small random models, so that plans need not assume this machine's speed.

    Takes a minute or two. Finished runs count for more, and are learnt from by themselves.
    """
    from core.planning.calibrating import calibrate as measure
    from core.planning.calibration import store

    click.echo("Training small random models, to see how fast that goes …", err=True)
    points = measure(lambda point: click.echo(printable(_line(point)), err=True))
    if as_json:
        click.echo(json.dumps({"kept": str(store()), "measured": [_tree(p) for p in points]}))
    else:
        click.echo(f"Kept in {store()}. Plans for this device use it from now on.", err=True)
    return 0


def _line(point: Measurement | Failed) -> str:
    from core.planning.calibration import Measurement

    if not isinstance(point, Measurement):
        return f"  {point.method:<6} could not be tried: {point.message[:200]}"
    slower = f"{point.factor:.2f} times as long as assumed"
    return f"  {point.method:<6} {point.tokens_per_s:>10,.0f} tokens/s on {point.device}: {slower}"


def _tree(point: Measurement) -> dict[str, object]:
    return {
        "device": point.device,
        "method": point.method,
        "stack": point.stack,
        "parameters": point.shape.parameters,
        "tokens_per_s": round(point.tokens_per_s, 1),
        "factor": round(point.factor, 4),
        "peak_allocated": point.peak_allocated,
        "peak_reserved": point.peak_reserved,
    }
