"""What the model thought of the answers before it was trained, for objectives that compare.

With an adapter that can be switched off, the base is at hand whenever it is asked. Where the
model's own weights change, its log-probabilities are taken once before the first step and lie
beside the encoded rows: no second model is in memory while training.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from core.data.prepared import Prepared
from core.data.training_rows import TokenRow
from core.errors import UserError, describe_os_error
from core.recipe import Recipe
from core.runs.directory import RunDirectory, write_atomically
from core.training.batches import by_length, collate
from core.training.modes import measuring
from core.training.objective import answer_logs
from core.training.together import place

FILE = "reference.json"
POSITIONS = 4096  # (rows × width) in one forward pass
Told = Callable[[int, int], None]


def needs_reference(recipe: Recipe) -> bool:
    """Whether the base cannot be had again once training has begun."""
    method = recipe.method
    moves_the_base = not method.spec.has_adapter or method.name == "pissa"
    return recipe.objective.spec.is_compared and moves_the_base


def with_reference(
    run: RunDirectory, prepared: Prepared, model: Any, pad: int, told: Told
) -> Prepared:
    """The rows with the log-probabilities of their answers under `model`, which is not trained
    yet. A run that is resumed finds them in its data folder."""
    logs = _stored(run, prepared)
    if logs is None:
        rows = [*prepared.train, *prepared.eval]
        logs = _measured(model, rows, _batch_positions(rows), pad, told)
        if place().writes:
            _store(run, logs)
    both = [
        replace(row, reference=found)
        for row, found in zip([*prepared.train, *prepared.eval], logs, strict=True)
    ]
    count = len(prepared.train)
    return replace(prepared, train=both[:count], eval=both[count:])


def _batch_positions(rows: Sequence[TokenRow]) -> int:
    return max(POSITIONS, 2 * max(row.longest for row in rows))


def _measured(
    model: Any, rows: Sequence[TokenRow], positions: int, pad: int, told: Told
) -> list[list[float]]:
    """For every row the log-probabilities of its first and its second sequence."""
    found: dict[int, list[float]] = {}
    numbered = sorted(range(len(rows)), key=lambda at: -rows[at].longest)
    with measuring(model):
        for batch in by_length([rows[at] for at in numbered], positions // 2):
            inputs = collate(batch, pad)
            on_device = (inputs[key].to(model.device) for key in ("input_ids", "labels"))
            logs = answer_logs(model, *on_device).view(2, -1).T.tolist()
            found.update(zip(numbered[len(found) :], logs, strict=False))
            told(len(found), len(rows))
    return [found[at] for at in range(len(rows))]


def _store(run: RunDirectory, logs: list[list[float]]) -> None:
    try:
        write_atomically(run.data / FILE, json.dumps(logs))
    except OSError as error:
        raise describe_os_error(error, "write the reference") from error


def _stored(run: RunDirectory, prepared: Prepared) -> list[list[float]] | None:
    try:
        logs: list[list[float]] = json.loads((run.data / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{run.data / FILE} is damaged.", "Delete it, and resume the run."
        ) from error
    return logs if len(logs) == len(prepared.train) + len(prepared.eval) else None
