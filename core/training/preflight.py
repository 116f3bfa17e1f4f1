"""What can be known to fail is said before anything heavy is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

from core.data.prepared import Prepared
from core.errors import UserError
from core.memory.formula import predict
from core.memory.prediction import Prediction
from core.models.catalogue import card_for
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.units import bytes_text

SPARE_BYTES = 256 * 1024**2


def check_disk(run: RunDirectory, recipe: Recipe, base: Path, prepared: Prepared) -> None:
    """UserError when the checkpoints and the result will not fit on the run's disk."""
    needed = disk_bytes(recipe, base, prepared)
    free = shutil.disk_usage(run.path).free
    if free < needed:
        raise UserError(
            f"The run needs about {bytes_text(needed)} of disk for its checkpoints and its "
            f"result; {bytes_text(free)} is free.",
            "Remove old runs, lower training.keep_checkpoints, or set TUNEDECK_HOME to "
            "another disk.",
        )


def disk_bytes(recipe: Recipe, base: Path, prepared: Prepared) -> int:
    """Checkpoints (the best and the next one come on top of those kept), result, merged model."""
    weights = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    expected = expected_memory(recipe, base, prepared, gradient_checkpointing=True)
    full = recipe.method.name == "full"
    adapter = expected.parts.adapter if expected else 0
    result = weights if full else adapter
    checkpoint = result + (expected.parts.optimizer if expected else 2 * result)
    merged = weights if recipe.merge and not full else 0
    kept = recipe.training.keep_checkpoints + 2
    return kept * checkpoint + result + merged + SPARE_BYTES


def expected_memory(
    recipe: Recipe, base: Path, prepared: Prepared, *, gradient_checkpointing: bool
) -> Prediction | None:
    """The predicted peak for these rows, on a GPU; None for a model of unknown shape."""
    training, method = recipe.training, recipe.method
    try:
        shape = card_for(str(base)).shape
    except UserError:
        return None
    return predict(
        shape,
        method.name,
        method.rank,
        method.target_modules,
        training.micro_batch,
        prepared.ledger.longest,
        gradient_checkpointing,
        training.optimizer,
        accumulates=training.gradient_accumulation > 1,
    )


def wants_checkpointing(
    recipe: Recipe, base: Path, prepared: Prepared, free_bytes: int | None
) -> bool:
    """Whether activations are computed twice to save memory. `free_bytes`: None on a CPU.

    `auto` trades time for memory only where the upper bound of the prediction does not fit.
    """
    wanted = recipe.training.gradient_checkpointing
    if wanted != "auto":
        return wanted
    if free_bytes is None:
        return False
    expected = expected_memory(recipe, base, prepared, gradient_checkpointing=False)
    return expected is None or expected.high > free_bytes
