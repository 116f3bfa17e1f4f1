"""What a decoder layer really keeps for its backward pass: counted in a real forward pass.

Models of two and of three layers are built with random weights, adapted as the trainer adapts
them, and run once; every tensor that autograd keeps is counted, each storage once, parameters
left out. The difference is one layer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from core.models.as_config import config_arguments
from core.models.catalogue import ModelShape
from core.models.families import targeted

ROWS = 2


def saved_per_token(
    shape: ModelShape, method: str, rank: int, targets: str, length: int, dropout: float = 0.0
) -> float:
    """Bytes that one layer keeps per token."""
    counts = [
        _saved(_build(replace(shape, layers=layers), method, rank, targets, dropout), shape, length)
        for layers in (2, 3)
    ]
    return (counts[1] - counts[0]) / (ROWS * length)


def _build(shape: ModelShape, method: str, rank: int, targets: str, dropout: float) -> Any:
    config = AutoConfig.for_model(shape.model_type, **config_arguments(shape))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.config.use_cache = False
    if method == "full":
        return model.train()
    names = [linear.name for linear in targeted(shape, targets)]
    adapted = get_peft_model(model, LoraConfig(r=rank, target_modules=names, lora_dropout=dropout))
    if method == "qlora":  # TRL casts the adapters of a 4-bit base; the base itself is not kept
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    return adapted.train()


def _saved(model: Any, shape: ModelShape, length: int) -> int:
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages: dict[int, int] = {}
    kept: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept.append(tensor)  # alive, so that no address is given out twice
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(0, shape.vocabulary, (ROWS, length))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.get_input_embeddings()(ids).requires_grad_(True)
        model(inputs_embeds=hidden, use_cache=False).logits.sum()
    return sum(storages.values())
