"""Configurations of models that cannot be trained here, or whose numbers cannot be true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.models.catalogue import card_for
from core.models.shape import shape_of_config
from core.models.suitable import WITH_TEXT_PART
from tests.core.models.test_catalogue import write_header

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 256,
    "max_position_embeddings": 512,
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hidden_size", 0),
        ("hidden_size", 64.5),
        ("hidden_size", "64"),
        ("hidden_size", True),
        ("hidden_size", [64]),
        ("hidden_size", float("nan")),
        ("vocab_size", float("inf")),
        ("vocab_size", 10**12),
        ("num_hidden_layers", -3),
        ("num_hidden_layers", 10**9),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 0),
        ("max_position_embeddings", -5),
        ("max_position_embeddings", "long"),
    ],
)
def test_a_number_that_no_model_has_is_named(key: str, value: object) -> None:
    with pytest.raises(UserError, match=f"its {key} is"):
        shape_of_config({**LLAMA, key: value})


@pytest.mark.parametrize("missing", ["hidden_size", "num_hidden_layers", "vocab_size"])
def test_a_number_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(UserError, match=f"it has no {missing}"):
        shape_of_config({key: value for key, value in LLAMA.items() if key != missing})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model_type": "xlm-roberta", "architectures": ["XLMRobertaForMaskedLM"]}, "an encoder"),
        ({"model_type": "bert", "architectures": None}, "an encoder"),
        ({"model_type": "t5", "is_encoder_decoder": True}, "an encoder with a decoder"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "no head that writes text"),
        (
            {
                "model_type": "qwen2_5_vl",
                "architectures": ["Qwen2_5_VLForConditionalGeneration"],
                "vision_config": {"depth": 2},
            },
            "images or sounds",
        ),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised by gptq"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantised by awq"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantised by fp8"),
        ({"model_type": "\x1b[31mllama"}, "no model_type"),
    ],
)
def test_what_is_no_plain_language_model_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        shape_of_config({**LLAMA, **change})


@pytest.mark.parametrize("method", ["mxfp4", "bitsandbytes"])
def test_packed_weights_that_can_be_trained_on_are_taken(method: str) -> None:
    packed = {**LLAMA, "quantization_config": {"quant_method": method}}
    assert shape_of_config(packed) == shape_of_config(LLAMA)


def test_models_of_images_that_are_taken_are_causal_models_to_transformers() -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    assert set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) >= WITH_TEXT_PART


def test_experts_are_counted_by_any_of_their_names() -> None:
    experts = {"moe_intermediate_size": 32, "n_routed_experts": 256, "num_experts_per_tok": 8}
    shape = shape_of_config({**LLAMA, "model_type": "deepseek_v3", **experts})
    assert (shape.experts, shape.active_experts, shape.expert_width) == (256, 8, 32)
    assert shape.parameters > 2 * 256 * 3 * 64 * 32
    assert shape_of_config({**LLAMA, "num_local_experts": 0}).experts is None


def test_an_architecture_that_is_not_known_says_what_is_assumed(model_folder: Path) -> None:
    assert card_for(str(model_folder)).caveat == ""
    (model_folder / "config.json").write_text(json.dumps({**LLAMA, "model_type": "novel"}))
    assert "its size is counted" in card_for(str(model_folder)).caveat
    write_header(model_folder / "model.safetensors", {"embed_tokens.weight": (256, 64)})
    assert "its size" not in card_for(str(model_folder)).caveat
    assert "its memory is predicted as if" in card_for(str(model_folder)).caveat
    assert "images" not in card_for(str(model_folder)).caveat
    seeing = {"model_type": "gemma3n", "text_config": {**LLAMA, "model_type": "gemma3n_text"}}
    seen = {**LLAMA, **seeing, "vision_config": {"depth": 2}}
    (model_folder / "config.json").write_text(json.dumps(seen))
    assert "images or sounds may take more" in card_for(str(model_folder)).caveat


def test_gpt2_calls_everything_otherwise() -> None:
    shape = shape_of_config(
        {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 256,
         "n_positions": 128}
    )  # fmt: skip
    assert (shape.hidden, shape.layers, shape.heads, shape.context) == (64, 2, 4, 128)
    assert shape.tied


def test_a_place_that_is_no_model_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}")
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "model.gguf").touch()
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    for place, says in (
        ("nowhere", "There is no folder"),
        ("rows.jsonl", "is a file, not a model's folder"),
        ("gguf", "is a GGUF file"),
        ("adapter", "holds only an adapter"),
    ):
        with pytest.raises(UserError, match=says):
            card_for(str(tmp_path / place))


def test_nesting_without_end_is_no_json(model_folder: Path) -> None:
    (model_folder / "config.json").write_text("[" * 200_000)
    with pytest.raises(UserError, match="not valid JSON"):
        card_for(str(model_folder))
