"""A shape back into the arguments of a transformers config, to build that model without weights."""

from __future__ import annotations

from typing import Any

from core.models.catalogue import ModelShape
from core.models.families import window

OLDER = ("falcon", "bloom")  # their head size and MLP width follow from the hidden size


def config_arguments(shape: ModelShape, layers: int | None = None) -> dict[str, Any]:
    """For `AutoConfig.for_model(shape.model_type, **…)`; `layers` builds fewer of them."""
    arguments: dict[str, Any] = {
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers if layers is None else layers,
        "num_attention_heads": shape.heads,
        "vocab_size": shape.vocabulary,
        "tie_word_embeddings": shape.tied,
        "pad_token_id": None,
    }
    if shape.model_type not in OLDER:
        arguments |= {
            "intermediate_size": shape.intermediate,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.head_dim,
            "max_position_embeddings": shape.context,
        }
    return {**arguments, **_particulars(shape)}


def _particulars(shape: ModelShape) -> dict[str, Any]:
    """What single architectures call otherwise, or have beside."""
    kind = shape.model_type
    if kind == "gemma3_text":
        return {"sliding_window": window(shape)}
    if kind == "falcon":
        return {"multi_query": shape.kv_heads == 1, "parallel_attn": True, "bias": False}
    if kind in ("mixtral", "gpt_oss"):
        return {"num_local_experts": shape.experts, "num_experts_per_tok": shape.active_experts}
    if kind == "qwen3_moe":
        return {
            "num_experts": shape.experts,
            "num_experts_per_tok": shape.active_experts,
            "moe_intermediate_size": shape.expert_width,
        }
    if kind == "llama4_text":
        return {
            "num_local_experts": shape.experts,
            "num_experts_per_tok": shape.active_experts,
            "intermediate_size": shape.expert_width,
            "intermediate_size_mlp": shape.intermediate,
            "interleave_moe_layer_step": 1,
        }
    return {}
