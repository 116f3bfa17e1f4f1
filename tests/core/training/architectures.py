"""Tiny random models of the architectures that people tune, by their names in transformers."""

from __future__ import annotations

from typing import Any

import transformers

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WIDTH = {"intermediate_size": 96}
GROUPED = {"num_key_value_heads": 2}
HEADS = {"head_dim": 16}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", WIDTH | GROUPED),
    "mistral": ("MistralConfig", WIDTH | GROUPED),
    "qwen2": ("Qwen2Config", WIDTH | GROUPED),
    "qwen3": ("Qwen3Config", WIDTH | GROUPED | HEADS),
    "gemma2": ("Gemma2Config", WIDTH | GROUPED | HEADS),
    "gemma3": ("Gemma3TextConfig", WIDTH | GROUPED | HEADS),
    "phi": ("PhiConfig", WIDTH),
    "phi3": ("Phi3Config", WIDTH | GROUPED),
    "gpt-neox": ("GPTNeoXConfig", WIDTH),
    "falcon": ("FalconConfig", {}),
    "bloom": ("BloomConfig", {}),
    "gpt2": ("GPT2Config", {}),
    "qwen3-moe": ("Qwen3MoeConfig", WIDTH | GROUPED | HEADS | EXPERTS),
}


def make_config(name: str) -> Any:
    kind, more = CONFIGS[name]
    return getattr(transformers, kind)(**SHAPE, **more)


def make_model(name: str) -> Any:
    """Weights drawn with a fixed seed, in 32 bits."""
    transformers.set_seed(0)
    return transformers.AutoModelForCausalLM.from_config(make_config(name))
