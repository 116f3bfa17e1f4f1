from __future__ import annotations

from typing import get_args

import pytest

from core.methods import METHODS, MethodName
from core.models.catalogue import card_for
from core.planning.work import Work, forward_flops, forwards_beside, training_flops

SHAPE = card_for("meta-llama/Llama-3.1-8B").shape
LENGTH, BATCH = 512.0, 4096.0


def flops(method: MethodName, *, checkpointing: bool = False, **changes: object) -> float:
    work = Work(method, **changes)  # type: ignore[arg-type]
    return training_flops(SHAPE, work, LENGTH, BATCH, gradient_checkpointing=checkpointing)


def test_full_fine_tuning_takes_six_operations_a_weight() -> None:
    weights = SHAPE.in_linear + SHAPE.vocabulary * SHAPE.hidden
    attention = 2.0 * SHAPE.layers * LENGTH * SHAPE.heads * SHAPE.head_dim
    assert forward_flops(SHAPE, LENGTH) == 2 * weights + attention
    assert flops("full") == 6 * weights + 3 * attention


def test_frozen_weights_need_no_gradient_of_their_own() -> None:
    assert 0.66 < flops("lora") / flops("full") < 0.7
    assert flops("lora", rank=64) > flops("lora", rank=8)
    assert flops("lora", targets="attention") < flops("lora")


@pytest.mark.parametrize("method", get_args(MethodName))
def test_every_method_has_its_price(method: MethodName) -> None:
    forward = forward_flops(SHAPE, LENGTH)
    assert 1.1 * forward < flops(method) < 6 * forward
    assert flops(method) < flops(method, checkpointing=True) < 1.6 * flops(method)
    assert Work(method).slower >= 1
    assert Work(method, bits=4).slower > Work(method, bits=16).slower


def test_what_the_methods_cost_against_one_another() -> None:
    assert flops("ia3") < flops("lora") < flops("dora")
    assert flops("prompt") > flops("ia3"), "its vectors are tokens too"
    assert flops("prompt", virtual_tokens=200) > flops("prompt", virtual_tokens=20)
    assert flops("prefix") > flops("ia3")
    assert flops("loha") > 1.5 * flops("lora"), "the update is multiplied in its full size"
    assert flops("last-layers", layers=2) < flops("last-layers", layers=16) < flops("full")
    assert flops("last-layers", layers=99) == pytest.approx(flops("full"), rel=0.1)
    assert Work("qlora").slower == Work("lora", bits=4).slower > 1
    assert Work("lora-8bit").slower > 1
    assert METHODS["qlora"].bits[0] == 4


def test_preferences_take_passes_that_learn_nothing() -> None:
    assert forwards_beside("sft", 3) == forwards_beside("orpo", 3) == 0
    assert forwards_beside("dpo", 3) == 1, "the model before training judges once, not every epoch"
    assert forwards_beside("kto", 3) == 5
