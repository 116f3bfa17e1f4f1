"""How long it takes to the same held-out loss: the worker by its own choices, and TRL's defaults.

    python -m tests.bench.time_to_loss [--steps 16] [--llamafactory PYTHON]

Chats of very different length, the same learning rate (constant) and effective batch. The loss is
that of the held-out answers for all of them, and the clock stands still while it is taken. What
counts is the highest loss of those that they end with: all have reached it. `--llamafactory` is
the Python of an environment with LLaMA-Factory, which wants other versions of everything. Nothing
is asserted.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

from tests.bench.llamafactory import train_with_llamafactory
from tests.bench.worker_runs import Step, encode, make_recipe, train_with, train_with_worker

Curve = list[tuple[float, float]]


def curve(steps: list[Step]) -> Curve:
    """(seconds of training, held-out loss) wherever the loss was taken."""
    seconds, found = 0.0, []
    for step in steps:
        seconds += step.seconds
        if step.loss is not None:
            found.append((seconds, step.loss))
    return found


def seconds_to(loss: float, points: Curve) -> float:
    """When the loss was reached, on the line between two measurements."""
    for (start, above), (end, below) in pairwise(points):
        if below <= loss < above:
            return start + (above - loss) / (above - below) * (end - start)
    return points[0][0] if points[0][1] <= loss else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--llamafactory", metavar="PYTHON")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        recipe = make_recipe(
            folder, rows=8 * options.steps, held_out=32, max_steps=options.steps, batch=8,
            eval_steps=options.every, save_steps=10_000,
        )  # fmt: skip
        prepared = encode(recipe, folder / "data")
        curves = {"TuneDeck": curve(train_with_worker(recipe, folder / "worker"))}
        show("TuneDeck", curves["TuneDeck"])
        defaults = train_with(
            "trl-defaults", recipe, folder / "data", folder / "trl", held_out=True
        )
        curves["TRL's defaults"] = curve(defaults)
        show("TRL's defaults", curves["TRL's defaults"])
        if options.llamafactory:
            other = train_with_llamafactory(
                options.llamafactory, recipe, prepared, folder / "factory", options.every
            )
            curves["LLaMA-Factory"] = curve(other)
            show("LLaMA-Factory", curves["LLaMA-Factory"])
    target = max(points[-1][1] for points in curves.values())
    own = seconds_to(target, curves["TuneDeck"])
    print(f"\nto a held-out loss of {target:.4f}{'seconds':>12}{'TuneDeck / it':>16}")
    for name, points in curves.items():
        took = seconds_to(target, points)
        print(f"{name:30}{took:12.1f}{own / took:16.2f}")


def show(name: str, points: Curve) -> None:
    text = ", ".join(f"{seconds:.0f} s {loss:.4f}" for seconds, loss in points)
    print(f"{name}: {text}", flush=True)


if __name__ == "__main__":
    main()
