"""Several processes that train one model: who each of them is, and what its share of a step is.

Rows of one step are `micro_batch` × `gradient_accumulation`, however many processes there are:
they share them. So a run may go on with another number of GPUs and stays the run it was.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from core.errors import UserError
from core.hardware.machine import Gpu, Machine
from core.recipe import HardwareSection, Recipe


@dataclass(frozen=True, slots=True)
class Place:
    """One process among those that train together, as torchrun tells it."""

    rank: int = 0
    local_rank: int = 0
    world: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process keeps the run directory of its machine; the others are silent."""
        return self.local_rank == 0

    @property
    def alone(self) -> bool:
        return self.world == 1


def place() -> Place:
    """The place of this very process."""
    return Place(
        int(os.environ.get("RANK", "0")),
        int(os.environ.get("LOCAL_RANK", "0")),
        int(os.environ.get("WORLD_SIZE", "1")),
    )


def shared(recipe: Recipe, world: int) -> Recipe:
    """The recipe with one process's part of a step: as many rows at a time as the recipe allows.

    UserError when the rows of a step cannot be shared evenly.
    """
    if world == 1:
        return recipe
    training = recipe.training
    rows, rest = divmod(training.effective_batch, world)
    if rest or not rows:
        raise UserError(
            f"{world} processes cannot share the {training.effective_batch} rows of a step evenly.",
            "Make training.micro_batch × training.gradient_accumulation a multiple of "
            f"{world}, or set hardware.gpus to a number that divides it.",
        )
    part = recipe.model_copy(deep=True)
    part.training.micro_batch = max(
        size for size in range(1, min(rows, training.micro_batch) + 1) if rows % size == 0
    )
    part.training.gradient_accumulation = rows // part.training.micro_batch
    return part


@dataclass(frozen=True, slots=True)
class Crew:
    """What one machine brings: a process for each of `gpus`, or `count` that share the CPU."""

    count: int
    gpus: tuple[Gpu, ...] = ()


def crew(hardware: HardwareSection, machine: Machine) -> Crew:
    """The processes of this machine. UserError when it has not what the recipe asks for."""
    wanted = hardware.gpus
    if wanted == 1:
        return Crew(1)
    if hardware.gpu == "cpu":
        return _on_the_cpu(wanted)
    if hardware.gpu != "auto":
        raise UserError(
            f"hardware.gpu names one GPU ({hardware.gpu}) and hardware.gpus asks for "
            f"{_shown(wanted)}.",
            "Leave hardware.gpu at auto, and give the indices in hardware.gpus.",
        )
    there = [gpu for gpu in machine.devices() if gpu.index is not None]
    if wanted == "all":
        return _whole(there) if len(there) > 1 else Crew(1)
    if isinstance(wanted, list):
        return _named(wanted, there)
    if len(there) < wanted:
        raise UserError(
            f"The recipe asks for {wanted} GPUs; this machine has {len(there) or 'none'}.",
            "Lower hardware.gpus, or set hardware.gpu to cpu to train on the CPU.",
        )
    by_memory = sorted(there, key=lambda gpu: -(gpu.free or 0))
    return _whole(sorted(by_memory[:wanted], key=lambda gpu: gpu.index))


def _on_the_cpu(wanted: str | int | list[int]) -> Crew:
    if isinstance(wanted, list):
        raise UserError("hardware.gpus names GPUs, and hardware.gpu is cpu.", "Change one of them.")
    return Crew(1 if wanted == "all" else int(wanted))


def _named(wanted: list[int], there: list[Gpu]) -> Crew:
    by_index = {gpu.index: gpu for gpu in there}
    missing = [str(index) for index in wanted if index not in by_index]
    if missing or not wanted or len(set(wanted)) < len(wanted):
        known = ", ".join(f"{gpu.index} ({gpu.name})" for gpu in there) or "none"
        problem = f"no GPU {', '.join(missing)}" if missing else "a list without repetition to name"
        raise UserError(
            f"hardware.gpus: there is {problem} on this machine; there is {known}.",
            "Set hardware.gpus to indices of those.",
        )
    return _whole([by_index[index] for index in wanted])


def _whole(gpus: list[Gpu]) -> Crew:
    """A process can use one slice of a card that is cut up, and no other beside it."""
    if len(gpus) > 1 and len({gpu.index for gpu in gpus}) < len(gpus):
        raise UserError("Slices of a GPU (MIG) cannot train together.", "Set hardware.gpus to 1.")
    return Crew(len(gpus), tuple(gpus))


def _shown(wanted: str | int | list[int]) -> str:
    if isinstance(wanted, list):
        return "GPUs " + ", ".join(map(str, wanted))
    return "all" if wanted == "all" else f"{wanted} GPUs"
