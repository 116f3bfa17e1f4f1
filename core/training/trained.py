"""What a checkpoint holds where a saved adapter would not be the whole truth, or too much of it.

peft saves soft prompts without the network that makes them, and AdaLoRA without the ranks that it
has given up and may want back; a model of which two layers are trained need not be saved whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.recipe import MethodSection
from core.training import adalora

FILE = "trained.safetensors"
SCORE = "score:"


def has_own_state(method: MethodSection) -> bool:
    """Whether this method's checkpoints are written here, and not by the library."""
    return method.name in ("last-layers", "adalora") or method.spec.kind == "soft-prompt"


def save_trained(model: Any, folder: Path) -> None:
    """Every weight that is trained; of AdaLoRA, what it knows about them too."""
    tensors = {name: weight.detach() for name, weight in _trained(model).items()}
    pattern = None
    if _moves_rank(model):
        pattern = model.peft_config["default"].rank_pattern
        for kind, each in adalora.scores(model).items():
            tensors |= {f"{SCORE}{kind}:{name}": value for name, value in each.items()}
    plain = {name: value.cpu().contiguous() for name, value in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(plain, folder / FILE, metadata={"rank_pattern": json.dumps(pattern)})


def load_trained(model: Any, folder: Path) -> None:
    """Put back what `save_trained` wrote."""
    weights = _trained(model)
    with safe_open(folder / FILE, framework="pt") as file:
        pattern = json.loads(file.metadata()["rank_pattern"])
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(file.get_tensor(name))
        scores = {name: file.get_tensor(name) for name in file.keys() if name.startswith(SCORE)}  # noqa: SIM118
    if _moves_rank(model):
        model.peft_config["default"].rank_pattern = pattern
        _remember(model, scores)


def _remember(model: Any, scores: dict[str, Tensor]) -> None:
    device = model.device
    for kind, each in adalora.scores(model).items():
        start = f"{SCORE}{kind}:"
        each.clear()
        for name, value in scores.items():
            if name.startswith(start):
                each[name.removeprefix(start)] = value.to(device)


def _moves_rank(model: Any) -> bool:
    config = getattr(model, "peft_config", {}).get("default")
    return config is not None and config.peft_type == "ADALORA"


def _trained(model: Any) -> dict[str, Any]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
