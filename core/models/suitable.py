"""Which config.json describes a model that cannot be trained here, whatever its size, and why."""

from __future__ import annotations

from typing import Any

from core.errors import UserError

ENCODERS = frozenset(
    {
        "albert", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "ernie",
        "modernbert", "mpnet", "nomic_bert", "roberta", "xlm-roberta", "xlm-roberta-xl",
    }
)  # fmt: skip
"""Models that read a text and write none; transformers would load most of them as a decoder."""
WRITES_TEXT = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How the names of models end that have a head for the next token."""
WITH_TEXT_PART = frozenset(
    {"gemma3", "gemma3n", "gemma4", "gemma4_unified", "llama4", "mllama", "qwen3_5", "qwen3_5_moe"}
)
"""Models of images or sounds that transformers loads as a causal language model, too."""
SENSES = ("vision_config", "audio_config", "visual")
IN_PLACE = "Give a causal language model in the format of transformers."
TRAINED_ON = frozenset({"bitsandbytes", "mxfp4"})
"""Quantised weights that can be trained on: bitsandbytes' by its own layers, MXFP4 is unpacked."""


def check_suitable(config: dict[str, Any], where: str) -> None:
    """UserError for a model that writes no text, or whose weights are made for running only."""
    kind = str(config.get("model_type"))
    if why := _no_decoder(config, kind):
        raise UserError(f"{where} describes {why}.", IN_PLACE)
    method = quantised_by(config)
    if method and method not in TRAINED_ON:
        raise UserError(
            f"{where} describes weights quantised by {method}: made for running, not for training.",
            "Give the model that it was made from, in 16 bits; qlora packs it in 4 while loading.",
        )


def quantised_by(config: dict[str, Any]) -> str:
    """By which method the weights were quantised; empty for plain ones."""
    settings = config.get("quantization_config")
    if not isinstance(settings, dict):
        return ""
    return str(settings.get("quant_method") or "a method without a name")


def _no_decoder(config: dict[str, Any], kind: str) -> str:
    """What it is instead of a language model; empty where it may be one."""
    if config.get("is_encoder_decoder") is True:
        return f"an encoder with a decoder ({kind}), and this trains decoders alone"
    if kind in ENCODERS:
        return f"an encoder ({kind}), which reads texts and writes none"
    names = config.get("architectures")
    classes = [str(name) for name in names] if isinstance(names, list) else []
    if classes and not any(name.endswith(WRITES_TEXT) for name in classes):
        return f"a {classes[0]}, which has no head that writes text"
    if kind not in WITH_TEXT_PART and any(isinstance(config.get(part), dict) for part in SENSES):
        return f"a model of images or sounds ({kind}), whose text part is not loaded alone"
    return ""
