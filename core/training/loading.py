"""The base model in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from core.methods import Bits
from core.recipe import Recipe
from core.training.together import place

TEXT_PARTS: dict[str, dict[str, str]] = {
    "gemma3": {
        r"^(model\.)?language_model\.model\.": "model.",
        r"^(model\.)?language_model\.lm_head\.": "lm_head.",
        r"^model\.language_model\.": "model.",
    },
}
"""How the names of a language model's weights begin where it is a part of another model, in the
files of either way to save them; and in the language model alone."""


def load_base(
    folder: Path, recipe: Recipe, device: str | None = None, *, sharded: bool = False
) -> Any:
    """The base model in the method's bits, on `device`; by default on the GPU that is visible or
    on the CPU.

    One that several processes will hold in parts stays in RAM, since it may fit no single GPU;
    in fewer bits it must be on one first, for that is where it becomes so small.
    """
    dtype = weights_dtype(recipe.model.precision)
    options: dict[str, Any] = {"dtype": dtype}
    if device is not None:
        options["device_map"] = {"": device}
    elif torch.cuda.is_available() and not (sharded and recipe.method.base_bits == 16):
        options["device_map"] = {"": place().local_rank}
    options |= quantization(recipe.method.base_bits, dtype, sharded=sharded)
    model = language_model(folder, **options)
    model.config.use_cache = False
    return model


def language_model(folder: Path, **options: Any) -> Any:
    """The causal LM in a folder, as `from_pretrained` loads it with these options; of a model of
    images the language model in it alone, which is saved as such, too."""
    part = text_part(folder)
    model = with_its_base(AutoModelForCausalLM.from_pretrained(folder, **options, **part))
    if part:
        model._weight_conversions = None  # else it is saved under the names that were read
    return model


def text_part(folder: Path) -> dict[str, Any]:
    """What `from_pretrained` is told of a model of images, so that it loads the language model in
    it alone; nothing where there is no such part."""
    config = AutoConfig.from_pretrained(folder)
    names = TEXT_PARTS.get(config.model_type)
    return {} if names is None else {"config": config.get_text_config(), "key_mapping": names}


def with_its_base(model: Any) -> Any:
    """Llama 4 names a base that it does not have, and so passes for its own: whoever looks for the
    layers without the head, as TRL's fused head does, would call all of it."""
    if model.base_model is model and hasattr(model, "model"):
        model.base_model_prefix = "model"
    return model


def quantization(bits: Bits, dtype: torch.dtype, *, sharded: bool = False) -> dict[str, Any]:
    """What `from_pretrained` is told so that the decoder's linears take so many bits.

    FSDP splits only floating-point tensors: there the packed bits are declared to be such.
    """
    if bits == 16:
        return {}
    if bits == 8:
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        **({"bnb_4bit_quant_storage": dtype} if sharded else {}),
    )
    return {"quantization_config": nf4}


def plain_weights(model: Any) -> Any:
    """A quantised model in 16 or 32 bits, every weight as the quantisation has rounded it."""
    plain = model.dequantize(model.dtype)
    for mark in ("is_loaded_in_4bit", "is_loaded_in_8bit", "is_quantized"):
        setattr(plain, mark, False)  # left as they were, and peft goes by them
    return plain


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
