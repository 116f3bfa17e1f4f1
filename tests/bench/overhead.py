"""What the worker costs beside a bare TRL script: tokens a second in the middle of a training.

    python -m tests.bench.overhead [--steps 8] [--rounds 2]

Same model, weights in bf16, LoRA, rows, order of rows and micro-batches; only the loop differs:
the worker evaluates nothing here, but writes its events, state and log. Two scripts: TRL with the
labels of the worker (answers only), and TRL as it is (all tokens trained). Run in turn, several
rounds in one go; of every contender the best round counts. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from core.recipe import Recipe
from tests.bench.worker_runs import Step, encode, make_recipe, train_with, train_with_worker

SKIPPED = 2  # steps until everything is warm
NAMES = {"worker": "TuneDeck's worker", "trl-labels": "TRL, same labels", "trl": "TRL"}


def tokens_per_second(steps: list[Step]) -> float:
    """Over all steps but the first few."""
    counted = [step for step in steps if step.number > SKIPPED]
    return sum(step.tokens for step in counted) / sum(step.seconds for step in counted)


def measure(style: str, recipe: Recipe, data: Path, folder: Path) -> float:
    if style == "worker":
        return tokens_per_second(train_with_worker(recipe, folder))
    return tokens_per_second(train_with(style, recipe, data, folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    steps = options.steps + SKIPPED
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        recipe = make_recipe(
            folder, rows=8 * steps, held_out=8, max_steps=steps, micro_batch=8,
            gradient_accumulation=1, eval_steps=10_000, save_steps=10_000,
        )  # fmt: skip
        encode(recipe, folder / "data")
        best = dict.fromkeys(NAMES, 0.0)
        for turn in range(options.rounds):
            for style in NAMES:
                found = measure(style, recipe, folder / "data", folder / f"{style}-{turn}")
                print(f"round {turn + 1}: {NAMES[style]}: {found:.1f} tokens/s", flush=True)
                best[style] = max(best[style], found)
    print(f"\n{'':24}{'tokens/s':>10}{'worker / it':>14}")
    for style, name in NAMES.items():
        print(f"{name:24}{best[style]:10.1f}{best['worker'] / best[style]:14.3f}")


if __name__ == "__main__":
    main()
