"""Faster layers from Liger, used only where they give the same loss.

(Unsloth has such layers, too, but its releases want an older TRL than this trainer is built on.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from core.recipe import Recipe
from core.training.choices import Choice, Machine

# In 16 bits other kernels round elsewhere; what is wrong is off by far more.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 2e-2, torch.float16: 1e-2}


def liger_lacks(recipe: Recipe, machine: Machine) -> str | None:
    """Why Liger's layers are not even tried; None when they are."""
    if recipe.training.kernels == "none":
        return "asked for"
    if find_spec("liger_kernel") is None:
        return "liger-kernel is not installed (pip install 'tunedeck[liger]')"
    return None if machine.on_gpu else "Liger's kernels need a GPU (Triton)"


def with_kernels(
    recipe: Recipe, machine: Machine, load: Callable[[], Any], loss_of: Callable[[Any], float]
) -> tuple[Any, Choice]:
    """The model, loaded, with Liger's layers where they help. `loss_of` is one forward pass.

    Where its loss is another one with them, the model is loaded once more, without.
    """
    model = load()
    lack = liger_lacks(recipe, machine)
    if lack is not None:
        return model, Choice("kernels", "none", lack)
    before = loss_of(model)
    module = sys.modules[type(_base(model)).__module__]
    names = dict(vars(module))
    with torch.no_grad():
        _apply_liger(_base(model))
    if not _patched(module, names):
        return model, Choice("kernels", "none", "Liger has none for this architecture")
    after = loss_of(model)
    tolerance = TOLERANCE.get(model.dtype, TOLERANCE[torch.bfloat16])
    if abs(after - before) <= tolerance * max(1.0, abs(before)):
        return model, Choice("kernels", "liger", f"the same loss ({after:.4f}) with and without")
    vars(module).update(names)
    why = f"Liger's layers give another loss ({after:.4f}, not {before:.4f})"
    return load(), Choice("kernels", "none", why)


def _apply_liger(model: Any) -> None:
    """Norms, rotary embedding and gated MLPs. The loss stays ours."""
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(
        model=model, cross_entropy=False, fused_linear_cross_entropy=False
    )


def _patched(module: Any, before: dict[str, Any]) -> bool:
    return any(before.get(name) is not value for name, value in vars(module).items())


def _base(model: Any) -> Any:
    """The model inside its adapter."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
