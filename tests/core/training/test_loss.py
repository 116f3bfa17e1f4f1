"""The loss at labelled positions is the loss that the model itself computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Llama4TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from core.data.encoding import IGNORED
from core.recipe import MethodSection, parse_recipe
from core.training import loss
from core.training.adapters import with_adapter
from core.training.loading import load_base
from core.training.loss import labelled_loss_rows, labelled_loss_sum, labelled_tokens
from core.training.modes import measuring

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
}


def test_a_model_that_names_no_base_of_its_own_finds_it_when_it_is_loaded(tmp_path: Path) -> None:
    """Llama 4; TRL's fused head calls the base, and its loss is the model's own."""
    experts = {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 48}
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(Llama4TextConfig(**SHAPE, head_dim=8, **experts))
    assert made.base_model is made, "transformers has mended it: with_its_base can go"
    made.save_pretrained(tmp_path)
    tree = {"model": {"id": str(tmp_path), "precision": "fp32"}, "data": "x"}
    model = load_base(tmp_path, parse_recipe(tree, "test"))
    add_fused_lm_head(model)
    ids, _, _ = batch()
    plain, fused = (
        model(input_ids=ids, labels=ids, **options).loss
        for options in ({}, {"fused_lm_head": True})
    )
    assert torch.allclose(plain, fused)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows of three lengths, padded on the right, of which the last part is trained."""
    torch.manual_seed(1)
    ids = torch.randint(1, 97, (3, 17))
    labels = ids.clone()
    mask = torch.ones_like(ids)
    for row, (length, prompt) in enumerate([(17, 9), (12, 5), (8, 0)]):
        ids[row, length:] = 0
        mask[row, length:] = 0
        labels[row, length:] = IGNORED
        labels[row, :prompt] = IGNORED
    return ids, labels, mask


def plain_loss(model: Any) -> torch.Tensor:
    ids, labels, mask = batch()
    return model(input_ids=ids, labels=labels, attention_mask=mask).loss


def ours(model: Any) -> torch.Tensor:
    ids, labels, _ = batch()
    return labelled_loss_sum(model, ids, labels) / labelled_tokens(labels)


def models() -> dict[str, Any]:
    torch.manual_seed(0)
    softcapped = Gemma2Config(**SHAPE, head_dim=8, final_logit_softcapping=2.0)
    return {
        "tied": LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True)),
        "untied": LlamaForCausalLM(LlamaConfig(**SHAPE)),
        "softcapped": Gemma2ForCausalLM(softcapped),
    }


@pytest.mark.parametrize("name", ["tied", "untied", "softcapped"])
def test_equals_the_plain_loss_and_its_gradients(name: str) -> None:
    model = models()[name]
    expected = plain_loss(model)
    expected.backward()
    gradients = {key: value.grad.clone() for key, value in model.named_parameters()}
    model.zero_grad()
    loss = ours(model)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for key, value in model.named_parameters():
        torch.testing.assert_close(value.grad, gradients[key], atol=1e-5, rtol=1e-4)


def test_equals_the_plain_loss_under_an_adapter() -> None:
    model = with_adapter(models()["tied"], MethodSection(rank=4))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.1)
    assert ours(model).item() == pytest.approx(plain_loss(model).item(), abs=1e-5)


def test_equals_the_plain_loss_in_four_bit(tiny_model: Path) -> None:
    recipe = parse_recipe(
        {"model": {"id": str(tiny_model), "precision": "fp32"}, "data": "x",
         "method": {"name": "qlora"}},
        "test",
    )  # fmt: skip
    model = load_base(tiny_model, recipe)
    assert "Linear4bit" in {type(module).__name__ for module in model.modules()}
    assert ours(model).item() == pytest.approx(plain_loss(model).item(), abs=1e-5)


def test_measuring_leaves_four_bit_gradients_whole(tiny_model: Path) -> None:
    """On CPUs with AVX512 bitsandbytes repacks weights that ever ran in evaluation mode."""
    recipe = parse_recipe(
        {"model": {"id": str(tiny_model), "precision": "bf16"}, "data": "x",
         "method": {"name": "qlora", "rank": 4}},
        "test",
    )  # fmt: skip
    torch.manual_seed(0)
    model = with_adapter(load_base(tiny_model, recipe), recipe.method).train()
    before = adapter_gradients(model)
    with measuring(model):
        with measuring(model):
            ours(model)
        ours(model)
    assert model.training
    after = adapter_gradients(model)
    assert before
    for name, gradient in before.items():
        assert gradient.abs().sum() > 0, name
        torch.testing.assert_close(after[name], gradient)


def adapter_gradients(model: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    ours(model).backward()
    return {
        name: value.grad.clone() for name, value in model.named_parameters() if "lora_B" in name
    }


def test_parts_of_a_batch_sum_up_to_the_whole() -> None:
    model = models()["tied"]
    ids, labels, _ = batch()
    parts = sum(labelled_loss_sum(model, ids[i : i + 1], labels[i : i + 1]) for i in range(3))
    assert parts.item() == pytest.approx(labelled_loss_sum(model, ids, labels).item(), rel=1e-5)


def test_no_label_is_a_zero_that_can_be_differentiated() -> None:
    model = models()["tied"]
    ids, labels, _ = batch()
    loss = labelled_loss_sum(model, ids, torch.full_like(labels, IGNORED))
    loss.backward()
    assert loss.item() == 0.0


def test_the_head_is_left_as_it_was(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    ids, labels, _ = batch()
    labelled_loss_sum(model, ids, labels)
    assert model(input_ids=ids).logits.shape[:2] == ids.shape


@pytest.mark.parametrize("name", list(models()))
def test_measured_in_parts_it_is_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, labels, _ = batch()
    model = models()[name].eval()
    with torch.no_grad():
        at_once = labelled_loss_rows(model, ids, labels)
        monkeypatch.setattr(loss, "MOST_MEASURED_LOGITS", 5 * 97)
        shown: list[int] = []
        hook = model.get_output_embeddings().register_forward_hook(
            lambda module, arguments, logits: shown.append(logits.shape[1])
        )
        in_parts = labelled_loss_rows(model, ids, labels)
        hook.remove()
    assert max(shown) == 5 < labelled_tokens(labels)
    torch.testing.assert_close(in_parts, at_once)
    torch.testing.assert_close(at_once.sum(), labelled_loss_sum(model, ids, labels))


def test_what_is_not_labelled_passes_through_the_model_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As often as what others have: where processes hold parts of a model, they wait for it."""
    ids, labels, _ = batch()
    model = models()["untied"]
    passes: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda *_: passes.append(1))
    nothing = torch.full_like(labels, IGNORED)
    losses = labelled_loss_rows(model, ids, nothing)
    assert losses.tolist() == [0.0, 0.0, 0.0]
    losses.sum().backward()  # as the gradients' exchange expects
    assert passes == [1]
    expected = labelled_loss_rows(model, ids, labels)
    monkeypatch.setattr(loss, "largest", lambda own: 4)
    with torch.no_grad():
        assert labelled_loss_rows(model, ids, nothing).tolist() == [0.0, 0.0, 0.0]
        torch.testing.assert_close(labelled_loss_rows(model, ids, labels), expected)
    assert len(passes) == 1 + 1 + (1 + 4) * 2


@pytest.mark.parametrize("method", ["lora", "prompt", "prefix"])
def test_measured_in_parts_it_is_the_same_with_an_adapter(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, labels, _ = batch()
    section = MethodSection.model_validate({"name": method, "virtual_tokens": 3})
    model = with_adapter(models()["untied"], section).eval()
    with torch.no_grad():
        at_once = labelled_loss_rows(model, ids, labels)
        monkeypatch.setattr(loss, "MOST_MEASURED_LOGITS", 5 * 97)
        torch.testing.assert_close(labelled_loss_rows(model, ids, labels), at_once)
