"""Running out of memory in the middle: smaller micro-batches, the same steps, no start over."""

from __future__ import annotations

from core.errors import describe_os_error
from core.recipe import Recipe
from core.runs.causes import known_cause
from core.runs.directory import RunDirectory, write_atomically
from core.runs.state import Exit

MEMORY_CODES = ("gpu-out-of-memory", "out-of-memory")


def is_out_of_memory(error: BaseException) -> bool:
    cause = known_cause(f"{type(error).__name__}: {error}")
    return cause is not None and cause.code in MEMORY_CODES


def at_one_row(error: BaseException, remedy: str) -> Exit:
    """Why the run ends: there is nothing left to halve."""
    cause = known_cause(f"{type(error).__name__}: {error}")
    assert cause is not None
    return Exit(cause.code, f"{cause.message.rstrip('.')}, with one row at a time.", remedy)


def halved(recipe: Recipe) -> Recipe | None:
    """The recipe with half the micro-batch and the same effective batch; None when at one row.

    An odd micro-batch goes to one row at a time: anything else would change which rows a step
    sees.
    """
    training = recipe.training
    if training.micro_batch == 1:
        return None
    smaller = training.micro_batch // 2 if training.micro_batch % 2 == 0 else 1
    changed = recipe.model_copy(deep=True)
    changed.training.gradient_accumulation = training.effective_batch // smaller
    changed.training.micro_batch = smaller
    return changed


def record(run: RunDirectory, recipe: Recipe) -> None:
    """Write the sizes that work into the run's recipe, for every resume from now on."""
    try:
        write_atomically(run.recipe, recipe.to_yaml())
    except OSError as error:
        raise describe_os_error(error, "write the recipe") from error
