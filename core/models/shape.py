"""A model's shape from its folder: config.json, and the headers of its safetensors files.

Reads a few kilobytes; the weights themselves stay where they are.
"""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from core.errors import UserError, describe_os_error
from core.models.catalogue import ModelShape
from core.models.families import KNOWN, linear_parameters, other_parameters

LARGEST_HEADER = 100_000_000
DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 256, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 256, "tie_word_embeddings": True},
    "gemma3_text": {
        "head_dim": 256,
        "tie_word_embeddings": True,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "vocab_size": 262_208,
    },
    "falcon": {"tie_word_embeddings": True},
    "bloom": {"tie_word_embeddings": True},
}
"""What config.json leaves out because it is the architecture's default."""


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in `folder`. UserError when its config.json does not tell it."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise describe_os_error(error, "read the model's") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON.", "Download the model again.") from error
    shape = shape_of_config(config, str(path))
    return _with_counted_weights(shape, folder)


def shape_of_config(config: dict[str, Any], where: str = "config.json") -> ModelShape:
    """The shape that a config describes, parameters computed from it."""
    try:
        text = _text_config(config)
        shape = _uncounted(text)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise UserError(
            f"{where} does not describe a text model that can be trained here.",
            "Give a causal language model in the format of transformers.",
        ) from error
    bias = bool(text.get("attention_bias") or text.get("bias"))
    return _counted(shape, bias=bias)


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part, with the defaults that its architecture leaves out."""
    nested = config.get("text_config")
    text = {**config, **nested} if isinstance(nested, dict) else config
    return {**DEFAULTS.get(str(text.get("model_type")), {}), **_plain(text)}


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _uncounted(text: dict[str, Any]) -> ModelShape:
    hidden = int(text.get("hidden_size") or text["n_embed"])
    heads = int(text.get("num_attention_heads") or text["n_head"])
    width = text.get("intermediate_size") or text.get("ffn_hidden_size") or 4 * hidden
    experts = text.get("num_local_experts") or text.get("num_experts")
    return ModelShape(
        parameters=0,
        in_linear=0,
        embedding=0,
        model_type=str(text["model_type"]),
        layers=int(text.get("num_hidden_layers") or text["n_layer"]),
        hidden=hidden,
        intermediate=int(width),
        heads=heads,
        kv_heads=_kv_heads(text, heads),
        head_dim=int(text.get("head_dim") or hidden // heads),
        vocabulary=int(text["vocab_size"]),
        tied=bool(text.get("tie_word_embeddings", False)),
        context=text.get("max_position_embeddings"),
        experts=experts,
        active_experts=text.get("num_experts_per_tok"),
        expert_width=(text.get("moe_intermediate_size") or int(width)) if experts else None,
    )


def _kv_heads(text: dict[str, Any], heads: int) -> int:
    if text["model_type"] == "falcon" and not text.get("new_decoder_architecture"):
        return 1 if text.get("multi_query", True) else heads
    return int(text.get("num_key_value_heads") or text.get("num_kv_heads") or heads)


def _counted(shape: ModelShape, *, bias: bool) -> ModelShape:
    """With the parameters counted; an unknown architecture is counted as if like Llama."""
    embedding = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    linear = linear_parameters(shape)
    total = linear + embedding + other_parameters(shape, bias=bias)
    return replace(shape, parameters=total, in_linear=linear, embedding=embedding)


def _with_counted_weights(shape: ModelShape, folder: Path) -> ModelShape:
    """Counts from the weights' own headers, for architectures that we cannot count ourselves."""
    if shape.model_type in KNOWN:
        return shape
    tensors = tensor_shapes(folder)
    if not tensors:
        return shape
    sizes = {name: prod(dimensions) for name, dimensions in tensors.items()}
    outer = [n for n in sizes if any(part in n for part in ("embed", "lm_head", "wte", "wpe"))]
    linear = [n for n, d in tensors.items() if len(d) == 2 and n not in outer]
    return replace(
        shape,
        parameters=sum(sizes.values()),
        in_linear=sum(sizes[name] for name in linear),
        embedding=sum(sizes[name] for name in outer),
    )


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name → dimensions of all tensors in the folder's safetensors files; {} where unreadable."""
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, LARGEST_HEADER)))
            header.pop("__metadata__", None)
            found |= {name: tuple(entry["shape"]) for name, entry in header.items()}
        except (OSError, ValueError, struct.error, KeyError, TypeError, AttributeError):
            return {}
    return found
