"""What can be known to fail is said before anything heavy is loaded."""

from __future__ import annotations

import shutil
from pathlib import Path

from core.data.prepared import Ledger, Prepared
from core.errors import UserError
from core.hardware.machine import Gpu, Machine
from core.memory.formula import Device, predict
from core.memory.prediction import Prediction
from core.models.catalogue import card_for
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.runs.vigil import bytes_of
from core.units import bytes_text

SPARE_BYTES = 256 * 1024**2
# Before any row is read: what does not fit now will not, whatever the rows turn out to be.
NO_ROWS_YET = Prepared([], [], [], Ledger("unknown", 0, {}, 0, 0, 0, 0, 0, longest=8))


def check_disk(run: RunDirectory, recipe: Recipe, base: Path, prepared: Prepared) -> None:
    """UserError when the checkpoints and the result will not fit on the run's disk."""
    needed = disk_bytes(recipe, base, prepared)
    there = sum(bytes_of(folder) for folder in (run.checkpoints, run.adapter, run.merged))
    free = shutil.disk_usage(run.path).free + there  # a resumed run has some of it already
    if free < needed:
        raise UserError(
            f"The run needs about {bytes_text(needed)} of disk for its checkpoints and its "
            f"result; {bytes_text(free)} is free.",
            "Remove old runs, lower training.keep_checkpoints, or set TUNEDECK_HOME to "
            "another disk.",
        )


def disk_bytes(recipe: Recipe, base: Path, prepared: Prepared) -> int:
    """Checkpoints (the best and the next one come on top of those kept), result, merged model.

    Where a model is split, FSDP writes what is trained beside the trainer's own copy of it, to go
    on from, and a tied embedding under both of its names; `auto` may come to that where several
    GPUs train.
    """
    weights = _weight_bytes(base)
    expected = expected_memory(recipe, base, prepared, gradient_checkpointing=True)
    adapter = expected.parts.adapter if expected else 0
    result = adapter if recipe.method.spec.has_adapter else weights
    states = expected.parts.optimizer if expected else 2 * result
    kept = recipe.training.keep_checkpoints + 2
    checkpoint = result + states
    if _may_be_split(recipe):
        again = _tied_bytes(base, weights)
        result += 0 if recipe.method.spec.has_adapter else again
        checkpoint = 2 * result + states + (again if recipe.method.spec.has_adapter else 0)
    if recipe.method.name == "last-layers":  # of the model only what is trained
        checkpoint = states * 3 // 2
    merged = weights if recipe.ends_with_merge else 0
    return kept * checkpoint + result + merged + SPARE_BYTES


def _tied_bytes(base: Path, weights: int) -> int:
    """What an embedding that is the head as well takes of the weights' bytes; else nothing."""
    try:
        shape = card_for(str(base)).shape
    except UserError:
        return 0
    table = shape.vocabulary * shape.hidden if shape.tied else 0
    return weights * table // shape.parameters


def _may_be_split(recipe: Recipe) -> bool:
    hardware, method = recipe.hardware, recipe.method
    if hardware.sharding == "fsdp":
        return True
    can_be = method.spec.can_be_split and method.base_bits != 8
    return hardware.sharding == "auto" and hardware.gpus != 1 and can_be


def check_memory(
    recipe: Recipe,
    base: Path,
    prepared: Prepared,
    machine: Machine,
    team: tuple[Gpu, ...] = (),
    world: int = 1,
) -> None:
    """UserError when not even the least that training needs is there, with what to change.

    Only what is beyond doubt is refused here: on a GPU the probe before the first step decides.
    `team`: this machine's GPUs that train together, where there are several; `world`: how many
    there are on all machines.
    """
    gpu = min(team, key=_room) if team else machine.best_gpu()
    if gpu is None:
        free, what = machine.ram_available, "RAM"
        expected = expected_memory(
            recipe, base, prepared, gradient_checkpointing=False, device="cpu"
        )
    else:
        free, what = _room(gpu), f"memory, {gpu.name or 'the GPU'} has"
        expected = expected_memory(leanest(recipe), base, prepared, gradient_checkpointing=True)
    if expected is None or (least := _least(expected, recipe, world)) <= free:
        return
    needed = f"Training needs at least {bytes_text(least)} of {what}"
    if gpu is None:
        raise UserError(f"{needed}; {bytes_text(free)} is free.", levers(recipe, prepared))
    taken = "" if gpu.free is None or gpu.free == gpu.total else _taken(gpu)
    raise UserError(f"{needed} {bytes_text(free)} free{taken}.", levers(recipe, prepared))


def leanest(recipe: Recipe) -> Recipe:
    """The recipe with the least memory that the trainer can make of it on a GPU."""
    smallest = recipe.model_copy(deep=True)
    smallest.training.micro_batch = 1
    if recipe.training.optimizer == "auto":
        smallest.training.optimizer = "paged-adamw-8bit"
    return smallest


def _room(gpu: Gpu) -> int:
    """What is free now: somebody else's process may hold the rest."""
    return (gpu.total or 0) if gpu.free is None else gpu.free


def _taken(gpu: Gpu) -> str:
    return f" of {bytes_text(gpu.total)} (see `tunedeck doctor` for what holds the rest)"


def _least(expected: Prediction, recipe: Recipe, processes: int) -> int:
    """What one process needs of its GPU; where each may hold a part of the model, its part."""
    if processes < 2 or recipe.hardware.sharding == "ddp":
        return expected.low
    parts = expected.parts
    split = parts.weights + parts.adapter + parts.gradients + parts.optimizer
    return max(0, expected.low - split + split // processes)


def check_merge(recipe: Recipe, base: Path, machine: Machine) -> None:
    """UserError when the base in 16 bits fits neither the GPU nor the RAM, for it is merged so."""
    if not recipe.ends_with_merge:
        return
    needed = _merging_bytes(recipe, base)
    there = max([machine.ram_total, *(gpu.total or 0 for gpu in machine.gpus)])
    if needed > there:
        raise UserError(
            f"Merging takes {bytes_text(needed)} of RAM or GPU memory at once; this machine has "
            f"{bytes_text(there)}.",
            "Set merge: false to keep the adapter alone; it can be merged on a larger machine.",
        )


def _merging_bytes(recipe: Recipe, base: Path) -> int:
    """The base as it is loaded for that, whatever it was trained in and however it lies here."""
    try:
        parameters = card_for(str(base)).shape.parameters
    except UserError:
        return _weight_bytes(base)
    return parameters * (4 if recipe.model.precision == "fp32" else 2)


def levers(recipe: Recipe, prepared: Prepared) -> str:
    """What would make it fit, strongest first; only what is not done yet."""
    training, longest = recipe.training, prepared.ledger.longest
    found = []
    method = recipe.method
    if not method.spec.has_adapter:
        found.append(f"use lora instead of {method.name}")
    if 4 in method.spec.bits and method.base_bits != 4 and method.name != "lora":
        found.append("set method.bits to 4")
    elif method.base_bits != 4:
        found.append("use qlora")
    if prepared is not NO_ROWS_YET:
        found.append(f"lower data.max_length (the longest row has {longest} tokens)")
    if training.gradient_checkpointing is False:
        found.append("turn on training.gradient_checkpointing")
    if training.optimizer == "adamw" and recipe.hardware.sharding in ("auto", "ddp"):
        found.append("set training.optimizer to paged-adamw-8bit")
    if recipe.hardware.sharding == "ddp" and recipe.hardware.gpus != 1:
        found.append("set hardware.sharding to fsdp")
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
    """The predicted peak for these rows; None for a model of unknown shape. An optimiser that is
    still to be chosen is taken for the usual one."""
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
        "adamw" if training.optimizer == "auto" else training.optimizer,
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
    if free_bytes is None or not recipe.method.spec.allows_checkpointing:
        return False
    expected = expected_memory(recipe, base, prepared, gradient_checkpointing=False)
    return expected is None or expected.high > free_bytes
