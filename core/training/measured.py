"""What a training tells about the machine it ran on, so that the next plan knows better."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from core.data.prepared import Prepared
from core.errors import UserError
from core.hardware.host import cores, cpu_name
from core.models.catalogue import card_for
from core.planning.calibration import cpu_device, gpu_device, installed_stack
from core.recipe import Recipe


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
