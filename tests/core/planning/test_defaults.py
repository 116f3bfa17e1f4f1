from __future__ import annotations

from typing import get_args

import pytest

from core.methods import MethodName
from core.objectives import ObjectiveName
from core.planning.defaults import defaults
from core.planning.recipes import eval_fraction
from core.recipe import MethodSection


@pytest.mark.parametrize("rows", [10, 100, 800, 5_000, 50_000, 1_000_000])
def test_they_stay_within_what_guides_recommend(rows: int) -> None:
    for method in ("lora", "qlora"):
        hyper = defaults(rows, int(7e9), method)  # type: ignore[arg-type]
        assert 1e-4 <= hyper.learning_rate <= 3e-4
        assert hyper.alpha == 2 * hyper.rank
        assert 1 <= hyper.epochs <= 3
        assert 0.03 <= hyper.warmup <= 0.1
        assert 0 <= hyper.dropout <= 0.05
    assert 1e-5 <= defaults(rows, int(7e9), "full").learning_rate <= 2e-5
    assert 0 < eval_fraction(rows) <= 0.2


@pytest.mark.parametrize(
    ("method", "billions", "objective", "rate"),
    [
        ("full", 7, "sft", 2e-5),
        ("full", 13, "sft", 1e-5),
        ("full", 7, "pretrain", 1e-5),
        ("full", 7, "dpo", 5e-7),
        ("full", 7, "orpo", 5e-6),
        ("lora", 7, "sft", 2e-4),
        ("qlora", 70, "sft", 1e-4),
        ("lora", 0.135, "sft", 1e-3),
        ("lora", 7, "dpo", 5e-6),
        ("lora", 7, "kto", 5e-6),
        ("lora", 7, "orpo", 5e-5),
        ("dora", 7, "sft", 1e-4),
        ("vera", 7, "sft", 4e-3),
        ("ia3", 7, "sft", 3e-3),
        ("prompt", 7, "sft", 3e-2),
        ("prefix", 7, "sft", 1e-2),
    ],
)
def test_learning_rates_are_those_of_their_source(
    method: MethodName, billions: float, objective: ObjectiveName, rate: float
) -> None:
    assert defaults(1000, int(billions * 1e9), method, objective).learning_rate == rate


@pytest.mark.parametrize("method", get_args(MethodName))
@pytest.mark.parametrize("objective", get_args(ObjectiveName))
def test_every_method_and_objective_gives_a_valid_recipe(
    method: MethodName, objective: ObjectiveName
) -> None:
    hyper = defaults(2000, int(8e9), method, objective)
    assert 0 < hyper.learning_rate < 0.1
    section = MethodSection(name=method, bits=hyper.bits, rank=hyper.rank, alpha=hyper.alpha)
    assert section.base_bits == section.spec.bits[0]


def test_preferences_are_learned_in_few_passes_and_texts_in_one() -> None:
    assert defaults(500, int(8e9), "lora", "dpo").epochs == 2
    assert defaults(5000, int(8e9), "lora", "dpo").epochs == 1
    assert defaults(500, int(8e9), "lora", "pretrain").epochs == 1
    assert defaults(500, int(8e9), "lora", "pretrain").rank == 64
