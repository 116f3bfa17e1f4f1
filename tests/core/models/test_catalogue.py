from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import UserError
from core.models.as_config import config_arguments
from core.models.catalogue import ModelShape, card_for, load_catalogue
from core.models.families import linear_parameters, linears, other_parameters, targeted
from core.models.shape import read_shape, shape_of_config
from tests.core.models.conftest import LLAMA_CONFIG

SHAPES = sorted({card.shape for card in load_catalogue()}, key=lambda s: (s.model_type, s.hidden))


def counted(shape: ModelShape) -> int:
    embedding = shape.vocabulary * shape.hidden * (1 if shape.tied else 2)
    return linear_parameters(shape) + embedding + other_parameters(shape)


def test_there_are_enough_models_and_each_says_what_it_is() -> None:
    cards = load_catalogue()
    assert len(cards) >= 64
    assert len({card.id for card in cards}) == len(cards)
    for card in cards:
        assert card.licence, card.id
        assert card.allows, card.id
        assert card.template, card.id
        assert card.languages, card.id
        assert card.good_for, card.id
        assert card.gated is not None, card.id
        assert card.year, card.id
        assert not card.caveat, card.id
        assert card.instruct == (card.template != "none") or not card.instruct, card.id


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: f"{s.model_type}-{s.hidden}-{s.layers}")
def test_parameter_counts_equal_transformers_to_the_unit(shape: ModelShape) -> None:
    """Counts are linear in the layers: equal for the preset and for two layers is equal for all."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    assert counted(shape) == shape.parameters
    assert linear_parameters(shape) == shape.in_linear
    small = replace(shape, layers=2)
    config = AutoConfig.for_model(shape.model_type, **config_arguments(small))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.tie_weights()
    assert sum(p.numel() for p in model.parameters()) == counted(small)
    modules = dict(model.named_modules())
    found = {
        name.rsplit(".", 1)[1]: (module.in_features, module.out_features)
        for name, module in modules.items()
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name
    }
    assert found == {linear.name: (linear.inputs, linear.outputs) for linear in linears(shape)}


def test_targets_are_those_of_the_recipe() -> None:
    llama = card_for("meta-llama/Llama-3.2-1B").shape
    phi3 = card_for("microsoft/Phi-3.5-mini-instruct").shape

    def names(shape: ModelShape, targets: object) -> list[str]:
        return [linear.name for linear in targeted(shape, targets)]  # type: ignore[arg-type]

    assert names(llama, "attention") == ["q_proj", "v_proj"]
    assert names(llama, "attention-all") == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert len(names(llama, "all-linear")) == 7
    assert names(llama, ["down_proj"]) == ["down_proj"]
    assert names(phi3, "attention") == ["qkv_proj"]


def test_a_folder_is_known_by_its_config(model_folder: Path) -> None:
    card = card_for(str(model_folder))
    assert card.shape.layers == 2
    assert card.shape.parameters == counted(card.shape)
    assert card.cached


def test_an_unknown_architecture_is_counted_by_its_weights(model_folder: Path) -> None:
    config = {**LLAMA_CONFIG, "model_type": "novel"}
    (model_folder / "config.json").write_text(json.dumps(config))
    tensors = {
        "embed_tokens.weight": (256, 64),
        "layers.0.wide.weight": (64, 100),
        "layers.0.norm.weight": (64,),
    }
    write_header(model_folder / "model.safetensors", tensors)
    shape = read_shape(model_folder)
    assert shape.parameters == 256 * 64 + 64 * 100 + 64
    assert shape.in_linear == 64 * 100
    assert shape.embedding == 256 * 64


def test_what_config_json_leaves_out_is_the_architectures_default() -> None:
    gemma = shape_of_config(
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "intermediate_size": 10240,
                "num_hidden_layers": 34,
            },
        }
    )
    assert gemma == replace(card_for("google/gemma-3-4b-it").shape, context=gemma.context)


@pytest.mark.parametrize("config", [{}, {"model_type": "vit", "hidden_size": "wide"}, []])
def test_a_config_of_something_else_is_refused(model_folder: Path, config: object) -> None:
    (model_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="does not describe a text model"):
        card_for(str(model_folder))


def test_what_nobody_knows_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(UserError, match="no preset"):
        card_for("acme/unknown")


def write_header(path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of which only the header is there."""
    header = {
        name: {"dtype": "BF16", "shape": list(shape), "data_offsets": [0, 0]}
        for name, shape in tensors.items()
    }
    content = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(content)) + content)
