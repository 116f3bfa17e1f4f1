"""Our losses are TRL's on TRL's own batches, and what the papers' formulas give by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from core.data.encoding import IGNORED
from core.data.training_rows import TokenRow, with_partners
from core.recipe import MethodSection, ObjectiveSection
from core.training.adapters import with_adapter
from core.training.batches import collate
from core.training.objective import PreferenceLoss, objective_loss, row_weights
from core.training.preference import kto_shift, kto_weights, orpo

BETA = 0.3
ROWS = 6


def fresh_model(folder: Path) -> Any:
    """The tiny model with an adapter that has not learned anything yet."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return with_adapter(model, MethodSection(rank=4))


def move(model: Any) -> None:
    """As if the adapter had learned something. (TRL keeps a copy of it as it was: "ref".)"""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B.default" in name:
                value.normal_(std=0.2)


def options(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": ROWS,
        "beta": BETA,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
    }


def first_batch(trainer: Any) -> dict[str, Tensor]:
    return dict(next(iter(trainer.get_train_dataloader())))


def sequences(ids: Tensor, answers: Tensor, mask: Tensor) -> list[tuple[list[int], list[int]]]:
    """Unpadded ids and labels of TRL's rows."""
    found = []
    for row, trained, real in zip(ids, answers, mask, strict=True):
        length = int(real.sum())
        labels = torch.where(trained == 1, row, IGNORED)
        found.append((row[:length].tolist(), labels[:length].tolist()))
    return found


def pairs_from(batch: dict[str, Tensor]) -> list[TokenRow]:
    found = sequences(batch["input_ids"], batch["completion_mask"], batch["attention_mask"])
    half = len(found) // 2
    return [
        TokenRow(at, *found[at], second_ids=found[half + at][0], second_labels=found[half + at][1])
        for at in range(half)
    ]


def ours(model: Any, section: ObjectiveSection, rows: list[TokenRow], size: int) -> float:
    """The mean over all rows, computed in micro-batches of `size` as the trainer does it."""
    loss = objective_loss(section, rows)
    batches = [collate(rows[at : at + size], pad=0) for at in range(0, len(rows), size)]
    loss.begin(model, batches)
    total = sum(float(loss.loss_sum(model, batch).detach()) for batch in batches)
    return total / sum(map(loss.items, batches))


def preference_rows() -> Dataset:
    return Dataset.from_list(
        [
            {
                "prompt": [{"role": "user", "content": f"turn on the lamp {n} " + "now " * n}],
                "chosen": [{"role": "assistant", "content": "kitchen lamp " * (n % 3 + 1)}],
                "rejected": [{"role": "assistant", "content": f"off {n}"}],
            }
            for n in range(ROWS)
        ]
    )


@pytest.mark.parametrize("size", [ROWS, 2])
def test_dpo_is_that_of_trl(tiny_model: Path, tmp_path: Path, size: int) -> None:
    from trl import DPOConfig, DPOTrainer

    model = fresh_model(tiny_model)
    trainer = DPOTrainer(
        model=model,
        args=DPOConfig(**options(tmp_path)),
        train_dataset=preference_rows(),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )
    move(model)
    batch = first_batch(trainer)
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    expected = float(trainer.compute_loss(model, batch).detach())
    section = ObjectiveSection(name="dpo", beta=BETA)
    assert ours(model, section, pairs_from(batch), size) == pytest.approx(expected, abs=1e-5)
    assert abs(expected - math.log(2)) > 0.01  # the adapter does make a difference
    assert trainable == {name for name, value in model.named_parameters() if value.requires_grad}


def test_kto_is_that_of_trl(tiny_model: Path, tmp_path: Path) -> None:
    from trl import KTOConfig, KTOTrainer

    rows = [
        {
            "prompt": [{"role": "user", "content": f"turn on the lamp {n} " + "now " * n}],
            "completion": [{"role": "assistant", "content": "kitchen lamp " * (n % 3 + 1)}],
            "label": n % 3 == 0,
        }
        for n in range(ROWS)
    ]
    model = fresh_model(tiny_model)
    trainer = KTOTrainer(
        model=model,
        args=KTOConfig(**options(tmp_path), desirable_weight=1.7, undesirable_weight=0.6),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )
    move(model)
    batch = first_batch(trainer)
    expected = float(trainer.compute_loss(model, batch).detach())
    own = sequences(batch["input_ids"], batch["completion_mask"], batch["attention_mask"])
    other = sequences(
        batch["KL_input_ids"], batch["KL_completion_mask"], batch["KL_attention_mask"]
    )
    given = [
        TokenRow(at, *own[at], *other[at], desirable=bool(label))
        for at, label in enumerate(batch["label"])
    ]
    section = ObjectiveSection(name="kto", beta=BETA, desirable_weight=1.7, undesirable_weight=0.6)
    for size in (ROWS, 2):
        assert ours(model, section, given, size) == pytest.approx(expected, abs=1e-5)


def test_the_odds_of_orpo_are_those_of_trl() -> None:
    from trl.experimental.orpo import ORPOTrainer

    class Stand:
        beta = BETA
        accelerator = type("", (), {"device": "cpu"})

    means = torch.tensor([[-0.2, -3.0], [-2.5, -0.01], [-1.0, -1.0], [-8.0, -0.5]])
    theirs, *_ = ORPOTrainer.odds_ratio_loss(Stand(), means[:, 0], means[:, 1])
    losses, rewards = orpo(means, BETA)
    torch.testing.assert_close(losses, -means[:, 0] - theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(rewards, BETA * means)


def test_orpo_is_the_formula_of_the_paper(tiny_model: Path) -> None:
    model = fresh_model(tiny_model)
    move(model)
    rows = [
        TokenRow(0, [5, 6, 7, 8], [IGNORED, IGNORED, 7, 8], [5, 6, 9], [IGNORED, IGNORED, 9]),
        TokenRow(1, [11, 12, 3], [IGNORED, 12, 3], [11, 7, 7, 7], [IGNORED, 7, 7, 7]),
    ]
    expected = 0.0
    for row in rows:
        chosen = mean_log(model, row.input_ids, row.labels)
        rejected = mean_log(model, row.second_ids or [], row.second_labels or [])
        odds = [math.exp(x) / (1 - math.exp(x)) for x in (chosen, rejected)]
        expected += -chosen - BETA * math.log(1 / (1 + odds[1] / odds[0]))
    section = ObjectiveSection(name="orpo", beta=BETA)
    assert ours(model, section, rows, 2) == pytest.approx(expected / 2, abs=1e-5)


def mean_log(model: Any, ids: list[int], labels: list[int]) -> float:
    """The mean log-probability of the labelled tokens, one by one."""
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    found = [
        float(logs[at - 1, label]) for at, label in enumerate(labels) if label != IGNORED and at
    ]
    return sum(found) / len(found)


def test_certain_answers_give_finite_losses() -> None:
    losses, _ = orpo(torch.tensor([[0.0, -90.0], [-90.0, 0.0]]), BETA)
    assert bool(losses.isfinite().all())


def test_without_answers_to_other_prompts_there_is_no_shift() -> None:
    assert kto_shift(torch.zeros(0), torch.zeros(0)).item() == 0.0
    assert kto_shift(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0])).item() == 1.5


def test_good_and_bad_rows_count_the_same() -> None:
    assert kto_weights(30, 10) == (1.0, 3.0)
    assert kto_weights(10, 30) == (3.0, 1.0)
    rows = [TokenRow(n, [1], [1], desirable=n == 0) for n in range(5)]
    assert row_weights(ObjectiveSection(name="kto"), rows) == (4.0, 1.0)
    assert row_weights(ObjectiveSection(name="kto", desirable_weight=2), rows) == (2.0, 1.0)


def test_a_partner_asks_something_else_and_is_not_too_long() -> None:
    rows = [
        TokenRow(1, [1, 2, 20], [IGNORED, IGNORED, 20], desirable=True),
        TokenRow(1, [1, 2, 21], [IGNORED, IGNORED, 21], desirable=False),
        TokenRow(2, [3, 30, 31, 32], [IGNORED, 30, 31, 32], desirable=True),
    ]
    partners = with_partners(rows, max_length=4)
    assert [row.second_ids for row in partners] == [
        [1, 2, 30, 31],
        [1, 2, 30, 31],
        [3, 21],
    ]
    assert partners[0].second_labels == [IGNORED, IGNORED, 30, 31]
    lone = with_partners(rows[:2], max_length=4)  # nothing else is asked: their own answers
    assert [row.second_ids for row in lone] == [[1, 2, 20], [1, 2, 21]]


def test_a_pair_is_two_sequences_and_one_row() -> None:
    loss = PreferenceLoss(ObjectiveSection(name="dpo"), (1.0, 1.0))
    batch = collate([TokenRow(0, [1, 2], [1, 2], [1, 2, 3], [1, 2, 3], reference=[-1.0, -2.0])], 0)
    assert batch["input_ids"].tolist() == [[1, 2, 0], [1, 2, 3]]
    assert batch["tokens"].item() == 5
    assert batch["reference"].tolist() == [[-1.0, -2.0]]
    assert loss.items(batch) == 1
