"""Several GPUs: each with a copy of the model, or with a part of it."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from core.errors import UserError
from core.hardware.machine import Machine
from core.methods import METHODS, MethodName
from core.models.catalogue import card_for
from core.planning.candidates import Candidate
from core.planning.elsewhere import rented
from core.planning.levers import levers_for
from core.planning.planner import plan
from core.planning.presets import load_preset
from core.planning.recipes import recipe_for
from core.planning.retuning import retune
from core.planning.search import optimizers
from core.planning.settings import SHARDINGS, settings_of, sharding_refusal
from core.units import GIB
from tests.core.planning.test_planner import CHAT, machine
from tui import plan_knobs

MODEL = "Qwen/Qwen3-8B"


def two_gpus(free_gib: float = 24) -> Machine:
    one = machine(free_gib)
    return replace(one, gpus=(one.gpus[0], replace(one.gpus[0], index=1)))


def star(method: MethodName = "lora", free_gib: float = 24) -> Candidate:
    cards = [card_for(MODEL)]
    made = plan(two_gpus(free_gib), CHAT, models=cards, methods=[method], gpus=2)
    return made.candidates[0]


def test_parts_need_less_memory_and_more_time() -> None:
    copies = retune(star(), sharding="ddp")
    parts = retune(copies, sharding="fsdp")
    assert parts.prediction.parts.weights < 0.6 * copies.prediction.parts.weights
    assert parts.prediction.peak < copies.prediction.peak - 4 * GIB
    assert parts.seconds is not None
    assert copies.seconds is not None
    assert parts.seconds > copies.seconds
    assert recipe_for(parts, name="x", sources=["y"], rows=9).hardware.sharding == "fsdp"


def test_on_one_gpu_there_is_nothing_to_split() -> None:
    parts = retune(star(), sharding="fsdp")
    alone = retune(parts, basis=replace(parts.basis, gpus=1))
    assert recipe_for(alone, name="x", sources=["y"], rows=9).hardware.sharding == "auto"
    assert alone.prediction.parts.weights > 1.5 * parts.prediction.parts.weights


@pytest.mark.parametrize("method", get_args(MethodName))
def test_every_method_gets_only_what_it_goes_with(method: MethodName) -> None:
    one = star(method)
    for how in SHARDINGS:
        turned = retune(one, sharding=how)
        recipe = recipe_for(turned, name="x", sources=["y"], rows=9)
        if sharding_refusal(settings_of(one), how):
            assert recipe.hardware.sharding == "auto"
        else:
            assert recipe.hardware.sharding == how


def test_another_method_that_cannot_be_split_goes_back_to_copies() -> None:
    parts = retune(star(), sharding="zero3")
    assert parts.sharding == "zero3"
    assert retune(parts, bits=4).sharding == "auto"
    assert retune(parts, method="pissa").sharding == "auto"
    assert retune(parts, method="dora").sharding == "zero3"


def test_parts_are_a_lever_where_a_copy_does_not_fit() -> None:
    large = star("lora", 12)
    assert not large.fits
    (lever,) = [one for one in levers_for(large, retune) if "fsdp" in one.text]
    assert lever.saves > 4 * GIB
    split = retune(large, sharding="fsdp")
    assert not any("fsdp" in one.text for one in levers_for(split, retune))


def test_what_cannot_be_split_so_is_left_out_and_said() -> None:
    made = plan(two_gpus(), CHAT, gpus=2, sharding="zero3")
    assert {one.method for one in made.candidates} == {"lora", "full"}
    assert {one.sharding for one in made.candidates} == {"zero3"}
    assert "QLoRA is left out: ZeRO-3 cannot split a base in 4 bits" in made.note
    with pytest.raises(UserError, match="PiSSA trains on whole copies"):
        plan(two_gpus(), CHAT, gpus=2, sharding="fsdp", methods=["pissa"])
    assert not METHODS["pissa"].can_be_split


def test_a_preset_is_split_where_that_is_asked_for() -> None:
    made = plan(two_gpus(), CHAT, gpus=2, sharding="fsdp", recipe=load_preset("chat-24gb"))
    assert [one.sharding for one in made.candidates] == ["fsdp"]
    with pytest.raises(UserError, match="ZeRO-3 cannot split a base in 4 bits"):
        plan(two_gpus(), CHAT, gpus=2, sharding="zero3", recipe=load_preset("chat-24gb"))


def test_fewer_gpus_than_asked_for_are_said() -> None:
    assert "This machine has 1 GPU, not 4" in plan(machine(24), CHAT, gpus=4).note
    assert "This machine has no GPU, not 4" in plan(machine(), CHAT, gpus=4).note
    elsewhere = plan(machine(), CHAT, gpus=4, free_bytes=24 * GIB)
    assert (elsewhere.basis and elsewhere.basis.gpus, "not 4" in elsewhere.note) == (4, False)


def test_several_rented_gpus_cost_several_times_as_much() -> None:
    cards = [card_for(MODEL)]
    one, two = (
        plan(machine(), CHAT, models=cards, methods=["lora"], gpu="L40S", gpus=count).candidates[0]
        for count in (1, 2)
    )
    assert one.basis.dollars_per_hour is not None
    assert two.basis.dollars_per_hour == 2 * one.basis.dollars_per_hour
    for candidate, times in ((one, 1), (two, 2)):
        offer = next(each for each in rented(candidate) if each.gpu.name == "L40S")
        assert offer.gpu.price is not None
        assert offer.price == (times * offer.gpu.price[0], times * offer.gpu.price[1])


def test_states_in_8_bits_are_not_split() -> None:
    copies, parts = star("full", 30), retune(star("full", 30), sharding="fsdp")
    assert "8bit" in copies.optimizer
    assert optimizers(settings_of(copies)) == ("adamw", "paged-adamw-8bit")
    assert parts.optimizer == "adamw"
    assert optimizers(settings_of(parts)) == ("adamw",)
    turns = {plan_knobs.turned(parts, "optimizer", step).optimizer for step in range(4)}
    assert turns == {"adamw", "sgd"}
