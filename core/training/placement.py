"""Where in a model an adapter sits: the names that its architecture gives to the layers."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

from torch import nn
from transformers.pytorch_utils import Conv1D

from core.errors import UserError

QUERY_AND_VALUE = ("q_proj", "v_proj")
KEY_AND_VALUE = ("k_proj", "v_proj")
# Architectures that compute queries, keys and values in one.
FUSED = ("query_key_value", "qkv_proj", "c_attn", "Wqkv")
ROUTERS = (".router", ".gate")
FEED_FORWARD_ENDS = ("down_proj", "dense_4h_to_h", "fc2", "mlp.c_proj")
SHOWN_NAMES = 24


def target_modules(model: nn.Module, wanted: str | list[str]) -> str | list[str]:
    """The layers to adapt, as peft is told them. UserError when the model has no such layers."""
    paths = linear_paths(model)
    if wanted == "all-linear":
        # Where there are experts peft would adapt those too, by adding a full-sized update to all
        # of them in every step; so it is told the names. Routers choose and are not adapted.
        if not expert_parameters(model):
            return wanted
        return _short_names([path for path in paths if not path.endswith(ROUTERS)], paths)
    if isinstance(wanted, list):
        _check_names(wanted, paths)
        return wanted
    attention = [path for path in paths if _is_attention(path)]
    if wanted == "attention-all":
        found = _short_names(attention, paths)
    else:
        found = _present(QUERY_AND_VALUE, attention) or _present(FUSED, attention)
    if not found:
        raise UserError(
            f"method.target_modules: {wanted} finds nothing in this model.", _names_to_choose(paths)
        )
    return found


def scaled_modules(model: nn.Module) -> tuple[list[str], list[str]]:
    """What IA3 scales: keys and values, and the inputs of the layers that end the feed-forward."""
    paths = linear_paths(model)
    attention = [path for path in paths if _is_attention(path)]
    keys = _present(KEY_AND_VALUE, attention) or _present(FUSED, attention)
    ends = _present(FEED_FORWARD_ENDS, [path for path in paths if not _is_attention(path)])
    if not keys:
        raise UserError(
            "method: IA3 scales keys and values, and finds no layer of either in this model.",
            "Choose another method: lora can be told its layers by name.",
        )
    return keys, ends


def linear_paths(model: nn.Module) -> list[str]:
    """Every linear layer but the output head, by its path."""
    head = model.get_output_embeddings()  # type: ignore[operator]
    return [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    ]


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The longest list of modules: every causal LM keeps its layers in one."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def expert_parameters(model: nn.Module) -> int:
    """Parameters of experts that are one block a layer, of three dimensions, and no linear layer:
    adapters leave them as they are, and quantisation does too."""
    # DeepSpeed leaves a parameter empty, and keeps its shape beside it.
    shapes = (getattr(each, "ds_shape", each.shape) for each in decoder_layers(model).parameters())
    return sum(prod(shape) for shape in shapes if len(shape) == 3)


def _is_attention(path: str) -> bool:
    return any("attn" in part or "attention" in part for part in path.split(".")[:-1])


def _present(names: Iterable[str], paths: Iterable[str]) -> list[str]:
    every = list(paths)
    return [name for name in names if any(_matches(path, name) for path in every)]


def _matches(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _short_names(chosen: list[str], paths: list[str]) -> list[str]:
    """The last part of each path; with the one before it where others end in the same."""
    others = {path.rsplit(".", 1)[-1] for path in paths if path not in set(chosen)}
    found: dict[str, None] = {}
    for path in chosen:
        parts = path.split(".")
        found[parts[-1] if parts[-1] not in others else ".".join(parts[-2:])] = None
    return list(found)


def _check_names(wanted: list[str], paths: list[str]) -> None:
    unknown = [name for name in wanted if not _present([name], paths)]
    if not wanted:
        raise UserError("method.target_modules is empty.", _names_to_choose(paths))
    if unknown:
        raise UserError(
            f"method.target_modules: this model has no linear layer {', '.join(unknown)}.",
            _names_to_choose(paths),
        )


def _names_to_choose(paths: list[str]) -> str:
    names = list(dict.fromkeys(path.rsplit(".", 1)[-1] for path in paths))
    shown = ", ".join(names[:SHOWN_NAMES]) or "none"
    return f"Its linear layers are called {shown}; all-linear takes them all."
