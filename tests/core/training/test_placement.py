"""Adapters sit where they should in every architecture, and say so where they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.errors import UserError
from core.methods import METHODS, MethodName
from core.recipe import MethodSection
from core.training.adapters import check_method, with_adapter
from core.training.loss import labelled_loss_sum, labelled_tokens
from core.training.placement import expert_parameters, scaled_modules, target_modules
from tests.core.training.architectures import CONFIGS, make_config, make_model

SEPARATE = ["q_proj", "k_proj", "v_proj", "o_proj"]
# (attention, attention-all, what IA3 scales)
LLAMA = (["q_proj", "v_proj"], SEPARATE, (["k_proj", "v_proj"], ["down_proj"]))
FUSED = (
    ["query_key_value"],
    ["query_key_value", "dense"],
    (["query_key_value"], ["dense_4h_to_h"]),
)
PLACES: dict[str, Any] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3"), LLAMA),
    **dict.fromkeys(("gpt-neox", "falcon", "bloom"), FUSED),
    "phi": (
        ["q_proj", "v_proj"],
        ["q_proj", "k_proj", "v_proj", "dense"],
        (["k_proj", "v_proj"], ["fc2"]),
    ),
    "phi3": (["qkv_proj"], ["o_proj", "qkv_proj"], (["qkv_proj"], ["down_proj"])),
    "gpt2": (["c_attn"], ["c_attn", "attn.c_proj"], (["c_attn"], ["mlp.c_proj"])),
    "qwen3-moe": (["q_proj", "v_proj"], SEPARATE, (["k_proj", "v_proj"], [])),
}
ADAPTERS = [name for name, method in METHODS.items() if method.kind == "adapter"]
OTHERS = [name for name in METHODS if name not in ADAPTERS]
# What peft has no layer for.
MISSING = {("gpt2", "oft"), ("gpt2", "loha"), ("gpt2", "lokr"), ("falcon", "prefix")}


def section(name: MethodName, **more: Any) -> MethodSection:
    return MethodSection(name=name, rank=4, layers=1, virtual_tokens=4, **more)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_layers_by_their_names(architecture: str) -> None:
    model = make_model(architecture)
    attention, attention_all, scaled = PLACES[architecture]
    assert target_modules(model, "attention") == attention
    assert target_modules(model, "attention-all") == attention_all
    assert scaled_modules(model) == scaled


@pytest.mark.parametrize("architecture", CONFIGS)
def test_every_method_learns_in_every_architecture(architecture: str) -> None:
    """All that is trained gets a gradient, and an adapter is merged to the same model."""
    torch.manual_seed(0)
    ids = torch.randint(3, 90, (2, 8))
    for name in [*ADAPTERS, *OTHERS]:
        if (architecture, name) in MISSING:
            continue
        model = with_adapter(make_model(architecture), section(name), 10)
        loss = labelled_loss_sum(model, ids, ids) / labelled_tokens(ids)
        loss.backward()
        trained = [(key, each.grad) for key, each in model.named_parameters() if each.requires_grad]
        unmoved = [key for key, gradient in trained if gradient is None]
        assert trained, name
        assert not unmoved, (name, unmoved[:3])
        if name in ADAPTERS:
            assert_merges(model, ids, name)


def assert_merges(model: Any, ids: torch.Tensor, name: str) -> None:
    """Also after a step, when the adapter says something."""
    with torch.no_grad():
        before = model.eval()(input_ids=ids).logits
        for weight in model.parameters():
            if weight.grad is not None:
                weight -= 0.1 * weight.grad.sign()
        adapted = model(input_ids=ids).logits
        merged = model.merge_and_unload(safe_merge=True)(input_ids=ids).logits
    said = (adapted - before).abs().max()
    assert said > 1e-4, name
    assert (merged - adapted).abs().max() < 0.02 * said, name


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    def save(architecture: str) -> Path:
        make_config(architecture).save_pretrained(tmp_path / architecture)
        return tmp_path / architecture

    return save


@pytest.mark.parametrize("architecture", ["llama", "phi3", "gpt2", "falcon"])
def test_what_cannot_be_is_said_before_the_weights_are_loaded(
    folder: Any, architecture: str
) -> None:
    """There are none in the folder."""
    base = folder(architecture)
    for name in METHODS:
        if (architecture, name) in MISSING:
            with pytest.raises(UserError, match=r"method: .*does not"):
                check_method(base, section(name))
        else:
            assert check_method(base, section(name)) is None


def test_unknown_names_are_answered_with_those_there_are(folder: Any) -> None:
    wrong = section("lora", target_modules=["q_proj", "query", "mlp"])
    with pytest.raises(UserError, match="no linear layer query, mlp") as raised:
        check_method(folder("phi"), wrong)
    assert raised.value.remedy.startswith("Its linear layers are called q_proj, k_proj, v_proj,")
    with pytest.raises(UserError, match="is empty"):
        check_method(folder("phi"), section("lora", target_modules=[]))
    assert check_method(folder("phi"), section("lora", target_modules=["q_proj", "fc1"])) is None


def test_more_layers_or_components_than_there_are(folder: Any) -> None:
    with pytest.raises(UserError, match=r"method.layers: this model has 2 layers, not 3"):
        check_method(folder("llama"), MethodSection(name="last-layers", layers=3))
    with pytest.raises(UserError, match=r"method.rank: PiSSA .* at most 32"):
        check_method(folder("llama"), MethodSection(name="pissa", rank=33))
    assert check_method(folder("llama"), MethodSection(name="pissa", rank=32)) is None


def test_experts_are_seen_where_deepspeed_has_left_the_weights_empty() -> None:
    model = make_model("qwen3-moe")
    names = target_modules(model, "all-linear")
    assert isinstance(names, list)
    for weight in model.parameters():
        weight.ds_shape, weight.data = weight.shape, weight.data.new_empty(0)
    assert expert_parameters(model) == 2 * 4 * (64 * 64 + 64 * 32)
    assert target_modules(model, "all-linear") == names


def test_experts_are_left_alone_and_said_to_be(folder: Any) -> None:
    model = make_model("qwen3-moe")
    assert expert_parameters(model) == 2 * 4 * (64 * 64 + 64 * 32)
    adapted = with_adapter(model, section("lora"))
    trained = [key for key, each in adapted.named_parameters() if each.requires_grad]
    assert len(trained) == 2 * 4 * 2
    assert not any("expert" in key for key in trained)
    said = check_method(folder("qwen3-moe"), section("lora"))
    assert said is not None
    assert said.startswith("The experts (")
    four = check_method(folder("qwen3-moe"), section("qlora"))
    assert four is not None
    assert four.endswith("in 16 bits and not in 4.")
    assert check_method(folder("qwen3-moe"), section("full")) is None
