"""What a decoder layer really keeps for its backward pass: counted in a real forward pass.

Models of two and of three layers are built with random weights, adapted as the trainer adapts
them, and run once; every tensor that autograd keeps is counted, each storage once, parameters
left out. The difference is one layer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from weakref import WeakSet

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from core.models.as_config import config_arguments
from core.models.catalogue import ModelShape
from core.recipe import MethodSection
from core.training.adapters import with_adapter

ROWS = 2


class Kept:
    """A tensor that autograd keeps, for as long as it does."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def saved_by_a_layer(
    shape: ModelShape, method: str, rank: int, targets: str, length: int, dropout: float = 0.0
) -> int:
    """Bytes that one layer keeps of a batch of `ROWS` rows."""
    counts = [
        _saved(build(replace(shape, layers=layers), method, rank, targets, dropout), shape, length)
        for layers in (2, 3)
    ]
    return counts[1] - counts[0]


def build(shape: ModelShape, method: str, rank: int, targets: str, dropout: float = 0.0) -> Any:
    """The model as the trainer adapts it. The base of QLoRA is not packed, which changes nothing
    that is kept."""
    config = AutoConfig.for_model(shape.model_type, **config_arguments(shape))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.config.use_cache = False
    section = MethodSection.model_validate(
        {"name": method, "rank": rank, "target_modules": targets, "dropout": dropout, "layers": 99}
    )
    adapted = with_adapter(model, section)
    if method == "qlora":  # TRL casts the adapters of a packed base
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    return adapted.train()


def _saved(model: Any, shape: ModelShape, length: int) -> int:
    held = (*model.parameters(), *model.buffers())
    before = {each.untyped_storage().data_ptr() for each in held}
    kept: WeakSet[Kept] = WeakSet()

    def pack(tensor: torch.Tensor) -> Kept:
        found = Kept(tensor)
        kept.add(found)
        return found

    ids = torch.randint(0, shape.vocabulary, (ROWS, length))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        hidden = model.get_input_embeddings()(ids).requires_grad_(True)
        logits = model(inputs_embeds=hidden, use_cache=False).logits.sum()
    storages = {each.tensor.untyped_storage().data_ptr(): each.tensor for each in kept}
    assert logits.requires_grad  # the graph is alive, and with it what it keeps
    return sum(
        tensor.untyped_storage().nbytes()
        for address, tensor in storages.items()
        if address not in before
    )
