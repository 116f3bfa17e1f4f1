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
from core.models.suitable import SENSES, check_suitable

LARGEST_HEADER = 100_000_000
WIDEST = 2**26
"""No layer, vocabulary or count of a model comes near it; a larger number is a mistake."""
LONGEST = 2**40
WIDTHS = ("hidden_size", "n_embd", "n_embed", "d_model")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers")
HEADS = ("num_attention_heads", "n_head", "n_heads")
CONTEXTS = ("max_position_embeddings", "n_positions", "max_seq_len")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
"""What architectures call the same thing."""
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
    "gpt2": {"tie_word_embeddings": True},
}
"""What config.json leaves out because it is the architecture's default."""


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in `folder`. UserError when its config.json does not tell it."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise describe_os_error(error, "read the model's") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON.", "Download the model again.") from error
    shape = shape_of_config(config, str(path))
    return _with_counted_weights(shape, folder)


def shape_of_config(config: dict[str, Any], where: str = "config.json") -> ModelShape:
    """The shape that a config describes, parameters computed from it."""
    if not isinstance(config, dict):
        raise _unsuitable(where, "it is no list of keys")
    check_suitable(config, where)
    try:
        text = _text_config(config)
        shape = _uncounted(text)
    except ValueError as error:
        raise _unsuitable(where, str(error)) from error
    bias = bool(text.get("attention_bias") or text.get("bias"))
    return _counted(shape, bias=bias)


def _unsuitable(where: str, why: str) -> UserError:
    return UserError(
        f"{where} does not describe a text model that can be trained here: {why}.",
        "Give a causal language model in the format of transformers.",
    )


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """The language model's part, with the defaults that its architecture leaves out."""
    nested = config.get("text_config")
    text = {**config, **nested} if isinstance(nested, dict) else config
    return {**DEFAULTS.get(str(text.get("model_type")), {}), **_plain(text)}


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if value is not None}


def _uncounted(text: dict[str, Any]) -> ModelShape:
    kind = text.get("model_type")
    if not isinstance(kind, str) or not kind.isprintable():
        raise ValueError("it has no model_type")
    hidden, heads = _number(text, *WIDTHS), _number(text, *HEADS)
    width = _number(text, "intermediate_size", "ffn_hidden_size", "n_inner", missing=4 * hidden)
    experts = _number(text, *EXPERTS, missing=0, least=0) or None  # a dense one may say 0
    active = ("num_experts_per_tok", "num_experts_per_token", "moe_k")
    return ModelShape(
        parameters=0,
        in_linear=0,
        embedding=0,
        model_type=kind,
        layers=_number(text, *LAYERS),
        hidden=hidden,
        intermediate=width,
        heads=heads,
        kv_heads=_kv_heads(text, heads),
        head_dim=_number(text, "head_dim", missing=max(1, hidden // heads)),
        vocabulary=_number(text, "vocab_size"),
        tied=bool(text.get("tie_word_embeddings", False)),
        context=_number(text, *CONTEXTS, missing=0, most=LONGEST) or None,
        experts=experts,
        active_experts=_number(text, *active, missing=1) if experts else None,
        expert_width=_number(text, "moe_intermediate_size", missing=width) if experts else None,
    )


def _number(
    text: dict[str, Any],
    *names: str,
    missing: int | None = None,
    least: int = 1,
    most: int = WIDEST,
) -> int:
    """Of the keys that architectures use for it, the first that is there; `missing` where none is.
    ValueError for what can be no size."""
    for name in names:
        if name not in text:
            continue
        value = text[name]
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if isinstance(value, bool) or not whole or not least <= value <= most:
            raise ValueError(f"its {name} is {value!r:.40}")
        return int(value)
    if missing is None:
        raise ValueError(f"it has no {names[0]}")
    return missing


def _kv_heads(text: dict[str, Any], heads: int) -> int:
    if text["model_type"] == "falcon" and not text.get("new_decoder_architecture"):
        return 1 if text.get("multi_query", True) else heads
    return _number(text, "num_key_value_heads", "num_kv_heads", missing=heads)


def _counted(shape: ModelShape, *, bias: bool) -> ModelShape:
    """With the parameters counted; an unknown architecture is counted as if like Llama."""
    embedding = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    linear = linear_parameters(shape)
    total = linear + embedding + other_parameters(shape, bias=bias)
    return replace(shape, parameters=total, in_linear=linear, embedding=embedding)


def caveat(shape: ModelShape, folder: Path) -> str:
    """What of its size or memory is assumed; empty for an architecture that is known here."""
    if shape.model_type in KNOWN:
        return ""
    like = f"{shape.model_type} is not an architecture known here"
    what = "its memory is predicted"
    if not tensor_shapes(folder):
        what = "its size is counted, and its memory predicted,"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    more = any(isinstance(config.get(part), dict) for part in SENSES)
    beside = ", and what it has for images or sounds may take more" if more else ""
    return f"{like}: {what} as if it were built like Llama{beside}"


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
            found |= {name: tuple(map(int, entry["shape"])) for name, entry in header.items()}
        except (OSError, ValueError, RecursionError, struct.error, KeyError, TypeError,
                AttributeError):  # fmt: skip
            return {}
    return found
