"""What a training tells about the machine it ran on, so that the next plan knows better."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from core.data.prepared import Prepared
from core.errors import UserError
from core.hardware.host import cores, cpu_name
from core.memory.measured import Seen, keep
from core.memory.setup import Setup
from core.models.catalogue import ModelShape, card_for
from core.planning.calibration import cpu_device, gpu_device, installed_stack
from core.recipe import Recipe
from core.training.peaks import memory_peaks


def remember_memory(
    found: dict[str, float | int], recipe: Recipe, base: Path, *, gradient_checkpointing: bool
) -> None:
    """Keep what a probe's step has needed, for the predictions to come. Nothing without a GPU."""
    if "step_allocated" not in found:
        return
    with suppress(UserError, OSError):  # a model of unknown shape; a home that cannot be written
        setup = setup_of(
            recipe,
            card_for(str(base)).shape,
            rows=int(found["rows"]),
            tokens=int(found["tokens"]),
            gradient_checkpointing=gradient_checkpointing,
        )
        reserved, peaks = int(found["step_reserved"]), memory_peaks()
        shown, now = peaks["vram_peak"], peaks["vram_reserved"]
        beside = None if shown is None or now is None else shown - now
        keep(
            Seen(
                device_name(),
                installed_stack(),
                setup,
                int(found["step_allocated"]),
                reserved,
                None if not beside else reserved + beside,
            )
        )


def setup_of(
    recipe: Recipe, shape: ModelShape, *, rows: int, tokens: int, gradient_checkpointing: bool
) -> Setup:
    """What decides the memory of this recipe's step on a batch of so many rows and tokens each.

    Batches of preferences hold two sequences a row.
    """
    training, method = recipe.training, recipe.method
    targets = method.target_modules
    rows = max(1, rows // 2) if recipe.objective.name in ("dpo", "kto", "orpo") else rows
    return Setup(
        shape,
        method.name,
        method.rank,
        targets if isinstance(targets, str) else tuple(targets),
        rows,
        tokens,
        gradient_checkpointing,
        training.optimizer,
        training.gradient_accumulation > 1,
        method.dropout,
        bits=method.bits,
        layers=method.layers,
        virtual_tokens=method.virtual_tokens,
        objective=recipe.objective.name,
    )


def measured(
    recipe: Recipe, base: Path, prepared: Prepared, *, gradient_checkpointing: bool
) -> dict[str, Any] | None:
    """The fields of the `measured` event: device, stack, model, batch and torch's peaks in bytes.

    None for a model whose shape is not known.
    """
    try:
        shape = card_for(str(base)).shape
    except UserError:
        return None
    on_gpu = torch.cuda.is_available()
    return {
        "device": device_name(),
        "on_gpu": on_gpu,
        "cores": cores(),
        "method": recipe.method.name,
        "rank": recipe.method.rank,
        "bits": recipe.method.bits,
        "objective": recipe.objective.name,
        "gpus": int(os.environ.get("WORLD_SIZE", "1")),
        "stack": installed_stack(),
        "shape": asdict(shape),
        "tokens_per_row": sum(row.tokens for row in prepared.train) / len(prepared.train),
        "micro_batch": recipe.training.micro_batch,
        "gradient_checkpointing": gradient_checkpointing,
        "peak_allocated": torch.cuda.max_memory_allocated() if on_gpu else None,
        "peak_reserved": torch.cuda.max_memory_reserved() if on_gpu else None,
    }


def device_name() -> str:
    """The device that torch computes on, called as the planner calls it."""
    if not torch.cuda.is_available():
        return cpu_device(cpu_name(), cores())
    card = torch.cuda.get_device_properties(0)
    return gpu_device(card.name, card.total_memory)
