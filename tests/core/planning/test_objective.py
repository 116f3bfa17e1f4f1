"""From the format of the data to what is trained: rows, lengths, time, the recipe."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.data.examples import FormatName
from core.errors import UserError
from core.objectives import ObjectiveName
from core.planning.data import DataSize, trained_on, usual_objective
from core.planning.planner import plan
from core.planning.recipes import recipe_for
from core.planning.retuning import retune
from tests.core.planning.test_planner import CHAT, found, machine

PAIRS = replace(CHAT, format="preference", cut_at=((1024, 40),))
MODEL = "Qwen/Qwen3-8B"


@pytest.mark.parametrize(
    ("format", "objective"),
    [("messages", "sft"), ("alpaca", "sft"), ("text", "pretrain"), ("preference", "dpo"),
     ("kto", "kto"), ("unknown", "sft")],
)  # fmt: skip
def test_the_objective_follows_from_the_format(
    format: FormatName, objective: ObjectiveName
) -> None:
    result = plan(machine(24), replace(CHAT, format=format))
    assert usual_objective(format) == objective
    star = result.candidates[0]
    assert star.basis.objective == objective
    recipe = recipe_for(star, name="x", sources=["rows.jsonl"], rows=1000)
    assert recipe.objective.name == objective


def test_another_objective_can_be_asked_for_where_the_rows_allow() -> None:
    assert plan(machine(24), PAIRS, objective="orpo").candidates[0].basis.objective == "orpo"
    with pytest.raises(UserError, match="DPO needs rows with"):
        plan(machine(24), CHAT, objective="dpo")


def test_of_a_pair_each_answer_is_one_sequence() -> None:
    pairs = trained_on(PAIRS, "dpo")
    assert (pairs.rows, pairs.tokens_per_row) == (1000, 150)
    assert 600 <= pairs.max_tokens < 1200
    assert pairs.cut_at == (), "it was counted of both together"
    assert trained_on(PAIRS, "kto").rows == 2000
    assert trained_on(CHAT, "sft") == CHAT


def test_preferences_take_more_time_and_memory_than_answers_alone() -> None:
    answers = found(plan(machine(24), PAIRS, objective="sft"), MODEL, "qlora")
    pairs = found(plan(machine(24), PAIRS), MODEL, "qlora")
    same = retune(pairs, micro_batch=answers.micro_batch, epochs=answers.hyper.epochs)
    same = retune(same, gradient_checkpointing=answers.gradient_checkpointing)
    assert same.seconds > 2 * (answers.seconds - 60)
    assert same.prediction.peak > answers.prediction.peak
    assert pairs.trained_tokens == pytest.approx(1000 * 300 * pairs.hyper.epochs)


def test_long_texts_are_split_where_other_rows_are_cut() -> None:
    books = DataSize(rows=10, tokens_per_row=50_000, p95=80_000, max_tokens=90_000, format="text")
    star = plan(machine(24), books).candidates[0]
    assert star.seq_length == 2048
    assert star.trained_tokens == 10 * 50_000
    assert star.steps == pytest.approx(10 * 50_000 / 2048 / 8, rel=0.05)
    assert star.basis.share_cut(512) == 0
    longer = retune(star, seq_length=4096)
    assert longer.trained_tokens == star.trained_tokens


def test_a_base_model_is_preferred_for_texts_and_an_assistant_for_chat() -> None:
    texts = replace(CHAT, format="text")
    assert not plan(machine(24), texts).candidates[0].model.instruct
    assert plan(machine(24), CHAT).candidates[0].model.instruct
