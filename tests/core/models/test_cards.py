from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import UserError
from core.models.cards import card_anywhere
from core.models.catalogue import card_for
from tests.core.models.conftest import LLAMA_CONFIG, Hub

GEMMA = {
    "model_type": "gemma3", "vision_config": {"hidden_size": 1152},
    "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240,
        "num_hidden_layers": 34, "vocab_size": 262_208,
    },
}  # fmt: skip


def test_a_hub_id_is_known_by_its_config_without_its_weights(hub: Hub) -> None:
    hub.add("acme/small")
    with pytest.raises(UserError, match="not known here"):
        card_for("acme/small")
    card = card_anywhere("acme/small")
    assert card.id == "acme/small"
    assert card.shape.layers == LLAMA_CONFIG["num_hidden_layers"]
    assert card.shape.parameters > 0
    assert not card.cached, "its weights are not here"
    assert not any("safetensors" in request for request in hub.requests if "GET" in request)
    asked = len(hub.requests)
    assert card_anywhere("acme/small") == card
    assert len(hub.requests) == asked, "its config lies in the cache now"


def test_the_language_part_of_a_model_that_sees(hub: Hub) -> None:
    hub.add("acme/sees", config__json=json.dumps(GEMMA).encode())
    preset = card_for("google/gemma-3-4b-it").shape
    assert card_anywhere("acme/sees").shape.parameters == preset.parameters


def test_what_the_hub_refuses_is_said(hub: Hub) -> None:
    with pytest.raises(UserError, match="There is no model “acme/nothing”"):
        card_anywhere("acme/nothing")
    hub.add("acme/gated")
    hub.status["acme/gated"] = (403, "GatedRepo")
    with pytest.raises(UserError, match="gated"):
        card_anywhere("acme/gated")


def test_offline_nothing_is_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("acme/small")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="not known here"):
        card_anywhere("acme/small")
    assert not hub.requests


def test_a_folder_with_weights_is_here_and_one_without_is_not(model_folder: Path) -> None:
    assert card_anywhere(str(model_folder)).cached
    (model_folder / "model.safetensors").unlink()
    assert not card_anywhere(str(model_folder)).cached
