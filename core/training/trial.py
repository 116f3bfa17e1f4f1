"""A quick trial: the whole pipeline on some rows and a few steps, to prove the set-up.

The run's recipe stays that of the real run, so that what is measured can be carried over to it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from core.data.prepared import Prepared
from core.data.training_rows import TokenRow
from core.recipe import Recipe

TRIAL_ROWS = 100
TRIAL_HELD_OUT = 32
TRIAL_ANSWERS = 8


def as_trial(recipe: Recipe) -> Recipe:
    """The recipe of a trial for this one."""
    trial = recipe.model_copy(deep=True)
    trial.trial = True
    trial.name = f"{recipe.name[:54]}-trial"
    return trial


def cut(prepared: Prepared, effective_batch: int, seed: int) -> Prepared:
    """Some of the rows: the longest, for its memory, and others at random, for their lengths."""
    wanted = max(TRIAL_ROWS, 2 * effective_batch)
    return replace(
        prepared,
        train=_some(prepared.train, wanted, seed),
        eval=_some(prepared.eval, TRIAL_HELD_OUT, seed),
        held_out=prepared.held_out[:TRIAL_ANSWERS],
    )


def shortened(recipe: Recipe) -> Recipe:
    """The recipe with a small final evaluation."""
    changed = recipe.model_copy(deep=True)
    changed.evaluation.rows = min(recipe.evaluation.rows, TRIAL_ANSWERS)
    return changed


def _some(rows: Sequence[TokenRow], count: int, seed: int) -> list[TokenRow]:
    if len(rows) <= count:
        return list(rows)
    longest = max(range(len(rows)), key=lambda at: rows[at].longest)
    chosen = random.Random(seed).sample(range(len(rows)), count)
    if longest not in chosen:
        chosen[0] = longest
    return [rows[at] for at in sorted(chosen)]
