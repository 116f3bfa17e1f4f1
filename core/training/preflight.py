"""What can be known to fail is said before anything heavy is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

from core.data.prepared import Prepared
from core.errors import UserError
from core.hardware.machine import Machine
from core.memory.formula import Device, predict
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
    weights = _weight_bytes(base)
    expected = expected_memory(recipe, base, prepared, gradient_checkpointing=True)
    full = recipe.method.name == "full"
    adapter = expected.parts.adapter if expected else 0
    result = weights if full else adapter
    checkpoint = result + (expected.parts.optimizer if expected else 2 * result)
    merged = weights if recipe.merge and not full else 0
    kept = recipe.training.keep_checkpoints + 2
    return kept * checkpoint + result + merged + SPARE_BYTES


def check_memory(recipe: Recipe, base: Path, prepared: Prepared, machine: Machine) -> None:
    """UserError when not even the least that training needs is there, with what to change.

    Only what is beyond doubt is refused here: on a GPU the probe before the first step decides.
    """
    gpu = machine.best_gpu()
    if gpu is None:
        free, what = machine.ram_available, "RAM"
        expected = expected_memory(
            recipe, base, prepared, gradient_checkpointing=False, device="cpu"
        )
    else:
        free, what = gpu.total or 0, f"memory, {gpu.name or 'the GPU'} has"
        smallest = recipe.model_copy(deep=True)
        smallest.training.micro_batch = 1
        expected = expected_memory(smallest, base, prepared, gradient_checkpointing=True)
    if expected is None or expected.low <= free:
        return
    needed = f"Training needs at least {bytes_text(expected.low)} of {what}"
    raise UserError(
        f"{needed}; {bytes_text(free)} is free."
        if gpu is None
        else f"{needed} {bytes_text(free)}.",
        levers(recipe, prepared),
    )


def check_merge(recipe: Recipe, base: Path, machine: Machine) -> None:
    """UserError when the base in 16 bits fits neither the GPU nor the RAM, for it is merged so."""
    if not recipe.merge or recipe.method.name == "full":
        return
    needed = _weight_bytes(base)
    there = max([machine.ram_total, *(gpu.total or 0 for gpu in machine.gpus)])
    if needed > there:
        raise UserError(
            f"Merging takes {bytes_text(needed)} of RAM or GPU memory at once; this machine has "
            f"{bytes_text(there)}.",
            "Set merge: false to keep the adapter alone; it can be merged on a larger machine.",
        )


def levers(recipe: Recipe, prepared: Prepared) -> str:
    """What would make it fit, strongest first; only what is not done yet."""
    training, longest = recipe.training, prepared.ledger.longest
    found = []
    if recipe.method.name == "full":
        found.append("use lora instead of full")
    if recipe.method.name != "qlora":
        found.append("use qlora")
    found.append(f"lower data.max_length (the longest row has {longest} tokens)")
    if training.gradient_checkpointing is False:
        found.append("turn on training.gradient_checkpointing")
    if training.optimizer == "adamw":
        found.append("set training.optimizer to paged-adamw-8bit")
    text = ", or ".join([*found, "choose a smaller model"])
    return f"{text[0].upper()}{text[1:]}."


def _weight_bytes(base: Path) -> int:
    return sum(file.stat().st_size for file in base.glob("*.safetensors"))


def expected_memory(
    recipe: Recipe,
    base: Path,
    prepared: Prepared,
    *,
    gradient_checkpointing: bool,
    device: Device = "cuda",
) -> Prediction | None:
    """The predicted peak for these rows; None for a model of unknown shape."""
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
        device=device,
        accumulates=training.gradient_accumulation > 1,
        dropout=method.dropout,
        bits=method.bits,
        layers=method.layers,
        virtual_tokens=method.virtual_tokens,
        objective=recipe.objective.name,
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
