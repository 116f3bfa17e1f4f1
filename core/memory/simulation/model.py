"""The model that is trained, on the meta device: built, quantised and adapted as the trainer
does it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from core.memory.setup import Setup
from core.models.as_config import config_arguments

NF4_BLOCK, ABSMAX_BLOCK = 64, 256
OUTLIER_THRESHOLD = 6.0  # LLM.int8's default, as transformers sets it


def build(setup: Setup) -> Any:
    """The model in training mode, with its trainable parameters marked."""
    from core.recipe import MethodSection
    from core.training.adapters import LOW_RANK, with_adapter

    method = MethodSection.model_validate(
        {
            "name": setup.method,
            "rank": setup.rank,
            "alpha": 2 * setup.rank,
            "dropout": setup.dropout,
            "target_modules": list(setup.targets)
            if isinstance(setup.targets, tuple)
            else setup.targets,
            "bits": setup.base_bits,
            "layers": setup.layers,
            "virtual_tokens": setup.virtual_tokens,
        }
    )
    with torch.device("meta"):
        model = _base(setup)
        if setup.base_bits < 16:
            quantise(model, setup.base_bits, in_parts=setup.in_parts)
        adapted = with_adapter(model, method)
    if setup.base_bits < 16 and setup.method in LOW_RANK:
        _cast_adapters(adapted)
    if setup.checkpointed:
        adapted.gradient_checkpointing_enable()
        if method.spec.has_adapter:
            adapted.enable_input_require_grads()
    return adapted.train()


def _base(setup: Setup) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    from core.training.loading import with_its_base

    config = AutoConfig.for_model(setup.shape.model_type, **config_arguments(setup.shape))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.config.use_cache = False
    return with_its_base(model)


def quantise(model: Any, bits: int, *, in_parts: bool = False) -> None:
    """Every linear of the decoder in 4 bits (NF4 with double quantisation) or 8; the head stays.

    `in_parts`: packed bits are declared to be floating-point numbers, which FSDP can split.
    """
    head = model.get_output_embeddings()
    storage = torch.bfloat16 if in_parts else torch.uint8
    pack = partial(_packed, storage=storage) if bits == 4 else _in_8_bits
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and child is not head:
                setattr(module, name, pack(child))
    setattr(model, f"is_loaded_in_{bits}bit", True)


def _in_8_bits(linear: nn.Linear) -> nn.Module:
    from bitsandbytes.nn import Int8Params, Linear8bitLt

    made: nn.Module = Linear8bitLt(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        has_fp16_weights=False,
        threshold=OUTLIER_THRESHOLD,
    )
    made.bias = linear.bias
    weight = torch.empty_like(linear.weight, dtype=torch.int8)
    made.state.CB, made.state.SCB = weight, torch.empty(linear.out_features)
    made.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    return made


def _packed(linear: nn.Linear, storage: torch.dtype) -> nn.Module:
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn import Linear4bit, Params4bit

    made: nn.Module = Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=torch.bfloat16,
        quant_type="nf4",
        quant_storage=storage,
    )
    made.bias = linear.bias
    count = linear.weight.numel()
    blocks = -(-count // NF4_BLOCK)
    absmax = torch.empty(blocks, dtype=torch.uint8)
    inner = QuantState(
        absmax=torch.empty(-(-blocks // ABSMAX_BLOCK)),
        blocksize=ABSMAX_BLOCK,
        code=torch.empty(256),
        dtype=torch.float32,
    )
    state = QuantState(
        absmax=absmax,
        shape=linear.weight.shape,
        dtype=torch.bfloat16,
        blocksize=NF4_BLOCK,
        code=torch.empty(16),
        quant_type="nf4",
        offset=torch.empty(()),
        state2=inner,
    )
    made.weight = Params4bit(
        torch.empty(-(-count // (2 * storage.itemsize)), 1, dtype=storage),
        requires_grad=False,
        quant_state=state,
        blocksize=NF4_BLOCK,
        quant_type="nf4",
        quant_storage=storage,
        bnb_quantized=True,
    )
    made.quant_state = state
    return made


def _cast_adapters(model: nn.Module) -> None:
    """TRL trains LoRA on a quantised base in bf16, but for DoRA's magnitudes; what is no low-rank
    matrix the trainer leaves in float32 (`in_base_precision`)."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_magnitude_vector" not in name:
            parameter.data = parameter.data.to(torch.bfloat16)


def tensors(model: nn.Module) -> list[tuple[torch.Tensor, bool]]:
    """Every tensor that the model holds, with whether it is trained; packed weights with their
    scales."""
    found: list[tuple[torch.Tensor, bool]] = []
    found += [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for module in model.modules():
        state = getattr(module, "quant_state", None)
        if state is not None:
            inner = state.state2
            scales = (state.absmax, state.code, state.offset, inner.absmax, inner.code)
            found += [(each, False) for each in scales]
        scale = getattr(getattr(module, "state", None), "SCB", None)
        found += [(scale, False)] if scale is not None else []
    return found + [(buffer, False) for buffer in model.buffers()]
