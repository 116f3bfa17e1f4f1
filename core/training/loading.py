"""The base model in memory, and what is trained of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from core.recipe import MethodSection, Recipe

ATTENTION = ("q_proj", "v_proj")
ATTENTION_ALL = ("q_proj", "k_proj", "v_proj", "o_proj")
# Architectures that fuse or rename their projections.
FUSED = ("query_key_value", "qkv_proj", "c_attn", "Wqkv", "in_proj")
FUSED_OUTPUT = ("dense", "o_proj", "out_proj", "c_proj")


def load_base(folder: Path, recipe: Recipe) -> Any:
    """The base model, in 4 bit for qlora, on the GPU that is visible or on the CPU."""
    dtype = weights_dtype(recipe.model.precision)
    options: dict[str, Any] = {"dtype": dtype}
    if torch.cuda.is_available():
        options["device_map"] = {"": 0}
    if recipe.method.name == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(folder, **options)
    model.config.use_cache = False
    return model


def weights_dtype(precision: str) -> torch.dtype:
    """The type of the weights: bf16 where the hardware computes in it."""
    named = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
    if precision in named:
        return named[precision]
    if torch.cuda.is_available():
        ampere = torch.cuda.get_device_capability() >= (8, 0)
        return torch.bfloat16 if ampere else torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    """Whether matrix products in bf16 are compiled for this CPU; emulated ones crawl."""
    return bool(
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def with_adapter(model: Any, method: MethodSection) -> Any:
    """The model with a fresh LoRA adapter; for `full` the model itself."""
    if method.name == "full":
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        target_modules=target_modules(model, method.target_modules),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def target_modules(model: nn.Module, wanted: str | list[str]) -> str | list[str]:
    """Names of the layers to adapt, as this architecture calls them."""
    if isinstance(wanted, list) or wanted == "all-linear":
        return wanted
    present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    if wanted == "attention":
        return [n for n in ATTENTION if n in present] or [n for n in FUSED if n in present]
    separate = [n for n in ATTENTION_ALL if n in present]
    if len(separate) > 1:
        return separate
    return [n for n in (*FUSED, *FUSED_OUTPUT) if n in present]
