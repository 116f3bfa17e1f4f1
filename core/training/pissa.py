"""PiSSA: LoRA whose matrices begin as the largest components of the weights they stand beside.

The base keeps the rest. So that a run can be resumed anywhere, and its result used on the base as
it was, what it began with is kept: the decomposition is drawn at random and differs by machine.
Where several processes train, one decomposes for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from core.training.ranks import answers, tell_all
from core.training.together import place

FILE = "pissa.safetensors"
# Randomised, in seconds; exact ones take many minutes for a model of 7B.
DECOMPOSITION = "pissa_niter_16"


def begin(model: Any, folder: Path) -> None:
    """Split the weights into adapter and rest: as this run did before, or for the first time.

    In all processes alike, and in a file on each machine: as the first that has such a file says,
    else as the first of all decomposes.
    """
    file = folder / FILE
    begun = answers(file.is_file())
    first = begun.index(True) if any(begun) else 0
    speaks = place().rank == first
    decomposes = speaks and not begun[first]
    if decomposes:
        for _, layer in _layers(model):
            layer.pissa_init("default", DECOMPOSITION)
    elif speaks:
        _take(model, load_file(file))
    tell_all(first, [value.data for _, value in _factors(model)])
    if not decomposes:
        _leave_the_rest(model)
    if place().writes and not file.is_file():
        _keep(model, file)


def _keep(model: Any, file: Path) -> None:
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f".{FILE}.{os.getpid()}")
    save_file({name: value.contiguous().cpu() for name, value in _factors(model)}, temporary)
    os.replace(temporary, file)


def save_as_lora(model: Any, start: Path, folder: Path) -> None:
    """The adapter for the base as it was: what was learned is the difference to the beginning.

    B·A - B0·A0 is a LoRA of twice the rank, [B, -B0]·[A; A0].
    """
    began = load_file(start / FILE)
    tensors = {}
    for name, value in _factors(model):
        first = began[name].to(value)
        joined = torch.cat([value, first], 0) if "lora_A" in name else torch.cat([value, -first], 1)
        tensors[name.replace(".default.", ".")] = joined.detach().cpu().contiguous()
    config = model.peft_config["default"]
    config = replace(config, r=2 * config.r, lora_alpha=2 * config.lora_alpha, inference_mode=True)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def _take(model: Any, began: dict[str, Any]) -> None:
    with torch.no_grad():
        for name, value in _factors(model):
            value.copy_(began[name])


def _leave_the_rest(model: Any) -> None:
    """Take what the adapter begins with out of the base."""
    with torch.no_grad():
        for _, layer in _layers(model):
            weight = layer.get_base_layer().weight
            weight.copy_(_rest(layer, weight))


def _rest(layer: Any, weight: torch.Tensor) -> torch.Tensor:
    """What peft leaves of a weight, computed as it does."""
    first, second = (factors["default"].weight for factors in (layer.lora_B, layer.lora_A))
    taken = layer.scaling["default"] * first @ second
    fan_in_fan_out = layer.fan_in_fan_out
    whole = weight.float().T if fan_in_fan_out else weight.float()
    rest = whole - taken
    return (rest.T if fan_in_fan_out else rest).to(weight.dtype)


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    named = model.named_modules()
    return ((name, module) for name, module in named if isinstance(module, LoraLayer))


def _factors(model: Any) -> Iterator[tuple[str, Any]]:
    named = model.named_parameters()
    return ((name, value) for name, value in named if "lora_" in name)
