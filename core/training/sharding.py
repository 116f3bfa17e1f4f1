"""How several processes hold the model: a copy each, or a part each (FSDP2, DeepSpeed ZeRO-3)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.data.prepared import Prepared
from core.errors import UserError
from core.recipe import Recipe
from core.training.preflight import expected_memory, leanest
from core.training.together import Crew

if TYPE_CHECKING:
    import torch

Sharding = Literal["ddp", "fsdp", "zero3"]


def check_sharding(recipe: Recipe, team: Crew, world: int) -> None:
    """UserError when what the recipe asks for is not there, before anything is loaded."""
    wanted = recipe.hardware.sharding
    if world == 1:
        return
    if wanted in ("fsdp", "zero3") and not team.gpus:
        raise UserError(
            f"hardware.sharding is {wanted}, which needs GPUs.", "Set it to ddp for the CPU."
        )
    if wanted == "zero3":
        if find_spec("deepspeed") is None:
            raise UserError(
                "hardware.sharding is zero3, and DeepSpeed is not installed.",
                "pip install deepspeed, or set hardware.sharding to fsdp.",
            )
        if recipe.method.base_bits != 16:
            raise UserError(
                "ZeRO-3 cannot split a base in 4 or 8 bits.",
                "Set hardware.sharding to fsdp, or train with lora.",
            )
        if recipe.method.name == "dora":
            raise UserError(
                "ZeRO-3 cannot split a model under DoRA, which begins with the weights' norms.",
                "Set hardware.sharding to fsdp, or train with lora.",
            )
    if wanted == "fsdp" and recipe.method.base_bits == 8:
        raise UserError(
            "FSDP cannot split a base in 8 bits.", "Set method.bits to 4 or 16, or sharding to ddp."
        )


def sharding(recipe: Recipe, base: Path, prepared: Prepared, memory: int | None) -> Sharding:
    """What `auto` means here: parts only where not even the least fits `memory` bytes of a GPU."""
    wanted = recipe.hardware.sharding
    if wanted != "auto":
        return wanted
    method = recipe.method
    whole_states = "8bit" in recipe.training.optimizer
    if memory is None or method.base_bits == 8 or whole_states or not method.spec.can_be_split:
        return "ddp"
    least = expected_memory(leanest(recipe), base, prepared, gradient_checkpointing=True)
    return "fsdp" if least is not None and least.low > memory else "ddp"


def parts_identity(chosen: Sharding, world: int) -> str:
    """What a checkpoint is bound to: each kind of parts is written in its own way, and those of
    ZeRO-3 fit only as many processes as wrote them."""
    return f"zero3 over {world} processes" if chosen == "zero3" else chosen


@contextmanager
def loading_for(chosen: Sharding, dtype: torch.dtype) -> Iterator[None]:
    """For `from_pretrained`: only the first process reads the weights into its RAM, or each of
    them only its part, in this type."""
    if chosen == "zero3":
        import torch
        from transformers.integrations import HfDeepSpeedConfig

        # Counts as long as it lives. Rows are not dealt with here, but DeepSpeed wants a number,
        # and would hold every part in 32 bits until the training begins.
        keep = HfDeepSpeedConfig(
            {
                "zero_optimization": {"stage": 3},
                "train_micro_batch_size_per_gpu": 1,
                "bf16": {"enabled": dtype is torch.bfloat16},
                "fp16": {"enabled": dtype is torch.float16},
            }
        )
        yield
        del keep
        return
    names = ("ACCELERATE_USE_FSDP", "FSDP_CPU_RAM_EFFICIENT_LOADING")
    if chosen == "fsdp":
        os.environ.update(dict.fromkeys(names, "true"))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def sharding_options(chosen: Sharding, *, checkpointing: bool, precision: str) -> dict[str, Any]:
    """The options of the trainer's configuration, for weights in this precision."""
    if chosen == "fsdp":
        # FSDP's own checkpointing renames the layers, and peft then finds no adapter to save.
        return {
            "fsdp": True,
            "fsdp_config": {
                "version": 2,
                "reshard_after_forward": True,
                "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
                "state_dict_type": "FULL_STATE_DICT",
                "cpu_ram_efficient_loading": True,
            },
            # Else every process keeps whole gradients until the last micro-batch of a step.
            "accelerator_config": {"gradient_accumulation_kwargs": {"sync_each_batch": True}},
            "activation_checkpointing": checkpointing,
        }
    if chosen == "zero3":
        return {
            "deepspeed": _zero3(),
            "activation_checkpointing": checkpointing,
            "bf16": precision == "bf16",  # elsewhere the weights alone say so
        }
    return {"activation_checkpointing": checkpointing}


def split_again(model: Any) -> None:
    """All of it, before weights are put into its parts: FSDP leaves the outermost layers whole
    after a forward pass that no backward pass follows."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def _zero3() -> dict[str, Any]:
    """Sizes follow from the trainer's own configuration (`auto`)."""
    return {
        "zero_optimization": {
            "stage": 3,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }
