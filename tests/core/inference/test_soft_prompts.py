"""Soft prompts: the loss is peft's own, and answers are those of the whole row without a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from core.data.encoding import IGNORED
from core.data.prepared import TokenRow
from core.evaluation.loss import held_out_loss
from core.inference.batches import complete
from core.inference.decoding import Answer, Sampling
from core.inference.loading import load_model
from core.inference.soft_prompts import SoftPrompted
from core.recipe import MethodSection
from core.training.adapters import with_adapter
from core.training.loss import labelled_loss_rows, labelled_loss_sum, labelled_tokens
from core.training.samples import write_answer

METHODS = ("prefix", "prompt", "p-tuning")
# Tokens of a row, and the first that is trained: never the very first. It has nothing before it,
# and is not counted; peft counts it where vectors stand there, and not where a prefix does.
LENGTHS = ((17, 9), (12, 5), (8, 1))
NEW_TOKENS = 10


def rows() -> list[TokenRow]:
    generator = torch.Generator().manual_seed(1)
    made = []
    for number, (length, prompt) in enumerate(LENGTHS):
        ids = torch.randint(3, 250, (length,), generator=generator).tolist()
        made.append(TokenRow(number, ids, [IGNORED] * prompt + ids[prompt:]))
    return made


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The rows padded on the right: ids, labels, mask."""
    ids = torch.zeros(3, 17, dtype=torch.long)
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for at, row in enumerate(rows()):
        ids[at, : len(row.input_ids)] = torch.tensor(row.input_ids)
        labels[at, : len(row.labels)] = torch.tensor(row.labels)
        mask[at, : len(row.input_ids)] = 1
    return ids, labels, mask


@pytest.fixture
def prompted(request: pytest.FixtureRequest, babbler: Path) -> Any:
    """A model whose soft prompt says something."""
    model = AutoModelForCausalLM.from_pretrained(babbler, dtype=torch.float32)
    torch.manual_seed(0)
    adapted = with_adapter(model, MethodSection(name=request.param, virtual_tokens=5))
    with torch.no_grad():
        for weight in adapted.prompt_encoder.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
    return adapted


@pytest.mark.parametrize("prompted", METHODS, indirect=True)
def test_the_loss_and_its_gradients_are_those_of_peft(prompted: Any) -> None:
    ids, labels, mask = batch()
    expected = prompted(input_ids=ids, attention_mask=mask, labels=labels).loss
    expected.backward()
    trained = {key: each for key, each in prompted.named_parameters() if each.requires_grad}
    gradients = {key: each.grad.clone() for key, each in trained.items()}
    prompted.zero_grad()
    loss = labelled_loss_sum(prompted, ids, labels) / labelled_tokens(labels)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients.values())
    for key, each in trained.items():
        torch.testing.assert_close(each.grad, gradients[key], atol=1e-5, rtol=1e-4)
    summed = labelled_loss_rows(prompted, ids, labels).sum()
    assert summed.item() == pytest.approx(loss.item() * labelled_tokens(labels), rel=1e-5)


def slow_answer(model: Any, prompt: list[int]) -> list[int]:
    """Greedy, the whole row anew for every token."""
    ids = list(prompt)
    for _ in range(NEW_TOKENS):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits
        ids.append(int(logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("prompted", METHODS, indirect=True)
def test_an_answer_on_a_cache_is_the_answer_without(prompted: Any) -> None:
    prompts = [row.input_ids for row in rows()]
    expected = [slow_answer(prompted, prompt) for prompt in prompts]
    model = SoftPrompted(prompted)
    found = complete(model, prompts, stop_ids=[], max_new_tokens=NEW_TOKENS)
    assert [each.tokens for each in sorted(found, key=lambda each: each.index)] == expected
    for prompt, wanted in zip(prompts, expected, strict=True):
        answer = Answer(model, prompt, Sampling(temperature=0, max_new_tokens=NEW_TOKENS), [])
        while answer.ended is None:
            answer.step()
        assert answer.tokens == wanted
    assert prompted.training
    assert write_answer(prompted, prompts[0], [])[:NEW_TOKENS] == expected[0]
    assert prompted.training


@pytest.mark.parametrize("prompted", METHODS, indirect=True)
def test_loaded_again_it_measures_the_same(prompted: Any, babbler: Path, tmp_path: Path) -> None:
    prompted.save_pretrained(tmp_path, save_embedding_layers=False)
    model = load_model(babbler, "cpu", tmp_path)
    assert isinstance(model, SoftPrompted)
    assert model.virtual_tokens == 5
    found = held_out_loss(model, rows())
    ids, labels, mask = batch()
    with torch.no_grad():
        expected = prompted.eval()(input_ids=ids, attention_mask=mask, labels=labels).loss
        bare = prompted.get_base_model()(input_ids=ids, attention_mask=mask, labels=labels).loss
    assert found is not None
    assert found.mean == pytest.approx(expected.item(), abs=0.25 * abs(bare - expected).item())
