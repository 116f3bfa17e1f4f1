from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from core.methods import METHODS, MethodName
from core.models.catalogue import card_for, load_catalogue
from core.planning.front import ALIKE
from core.planning.planner import OFFERED, plan
from core.planning.recipes import recipe_for
from core.planning.retuning import retune
from tests.core.planning.test_planner import CHAT, found, machine

MODEL = "Qwen/Qwen3-8B"
LONG = replace(
    CHAT, p95=900, max_tokens=2000, cut_at=((256, 700), (512, 300), (1024, 40), (2048, 0))
)


def test_for_one_model_every_choice_that_no_other_beats_is_listed() -> None:
    result = plan(machine(24), LONG, models=[card_for(MODEL)], methods=["qlora"])
    kept = result.candidates
    assert len(kept) > 3
    assert result.recommended == 0
    for one in kept:
        assert one.fits
        assert one.micro_batch * one.gradient_accumulation == 16
        for other in kept:
            quicker = (other.seconds or 0) <= (one.seconds or 0)
            leaner = other.prediction.peak < one.prediction.peak * (1 - ALIKE)
            same = (other.seq_length, other.optimizer) == (one.seq_length, one.optimizer)
            assert other is one or not (quicker and leaner and same)
    assert {one.seq_length for one in kept} == {2048, 1024}


def test_a_gpu_of_unknown_speed_has_the_same_choices() -> None:
    known, unknown = (
        plan(machine(24, name=name), LONG, models=[card_for(MODEL)], methods=["qlora"]).candidates
        for name in ("NVIDIA GeForce RTX 4090", "NVIDIA Prototype")
    )
    assert unknown[0].seconds is None
    assert {(c.micro_batch, c.seq_length) for c in known} == {
        (c.micro_batch, c.seq_length) for c in unknown
    }


def test_where_nothing_fits_the_leanest_is_listed() -> None:
    result = plan(machine(3), CHAT, models=[card_for(MODEL)], methods=["lora", "full"])
    assert [one.method for one in result.candidates] == ["lora", "full"]
    assert not any(one.fits for one in result.candidates)
    assert result.levers


def test_few_rows_are_cut_before_a_model_is_said_not_to_fit() -> None:
    tight = found(plan(machine(8.5), LONG), MODEL, "qlora")
    roomy = found(plan(machine(24), LONG), MODEL, "qlora")
    assert roomy.seq_length > tight.seq_length
    assert tight.fits
    assert tight.basis.share_cut(tight.seq_length) == 0.04
    assert "4.0% of the rows" in tight.why
    cut_more = found(plan(machine(8), LONG), MODEL, "qlora")
    assert not cut_more.fits, "a fifth of the rows is for a person to decide"


def test_few_methods_are_offered_and_every_one_can_be_asked_for() -> None:
    for rows in (50, 1_000, 5_000, 50_000):
        usual = {one.method for one in plan(machine(24), replace(CHAT, rows=rows)).candidates}
        assert usual == set(OFFERED)
    asked = plan(machine(24), CHAT, methods=["dora"]).candidates
    assert {one.method for one in asked} == {"dora"}
    assert "qlora" not in {one.method for one in plan(machine(), CHAT).candidates}


@pytest.mark.parametrize("method", get_args(MethodName))
def test_every_method_is_planned_and_written(method: MethodName) -> None:
    for gib in (24, None):
        cards = [card for card in load_catalogue() if card.shape.parameters < 4e9]
        result = plan(machine(gib), CHAT, models=cards, methods=[method])
        star = result.candidates[0]
        assert star.method == method
        assert star.fits
        assert METHODS[method].title in star.why
        recipe = recipe_for(star, name="x", sources=["rows.jsonl"], rows=1000)
        assert recipe.method.name == method
        assert recipe.training.learning_rate == star.hyper.learning_rate


def test_a_prefix_is_never_computed_twice() -> None:
    tight = plan(machine(6), CHAT, methods=["prefix"]).candidates
    assert not any(one.gradient_checkpointing for one in tight)
    star = found(plan(machine(24), CHAT), MODEL, "qlora")
    assert not retune(
        retune(star, gradient_checkpointing=True), method="prefix"
    ).gradient_checkpointing
    small = [card_for("Qwen/Qwen3-4B")]
    front = plan(machine(24), CHAT, models=small, methods=["prefix"]).candidates
    assert not any(one.gradient_checkpointing for one in front)


def test_another_method_brings_its_own_hyper_parameters() -> None:
    star = found(plan(machine(24), CHAT), MODEL, "qlora")
    vera = retune(star, method="vera")
    assert (vera.hyper.rank, vera.hyper.learning_rate) == (256, 4e-3)
    assert retune(vera, method="qlora").hyper == star.hyper


def test_padding_that_was_counted_costs_what_it_is() -> None:
    none, some, much = (
        found(plan(machine(24), replace(CHAT, padding=share)), MODEL, "qlora").seconds
        for share in (0.0, 0.1, 0.4)
    )
    assert none is not None
    assert some is not None
    assert much is not None
    assert none < some < much
    assert some - 60 < (none - 60) / 0.85


def test_packed_rows_have_no_padding() -> None:
    star = found(plan(machine(24), replace(CHAT, padding=0.4)), MODEL, "qlora")
    plain, packed = (retune(star, packing=wanted) for wanted in (False, True))
    assert packed.seconds < plain.seconds
    assert recipe_for(packed, name="x", sources=["y"], rows=9).training.packing is True
    soft = retune(plain, method="prompt")
    assert retune(soft, packing=True).seconds == soft.seconds, "its vectors stand before every row"
    flash = replace(star.basis, flash=True)
    assert retune(plain, basis=flash, packing="auto").seconds < packed.seconds, "without a mask"
    assert retune(plain, basis=flash).seconds == pytest.approx(plain.seconds)


def test_several_gpus_share_the_rows_of_a_step() -> None:
    one_gpu = machine(24)
    second = replace(one_gpu.gpus[0], index=1, free=one_gpu.gpus[0].free // 2)
    both = replace(one_gpu, gpus=(one_gpu.gpus[0], second))
    alone, together = (
        found(plan(both, CHAT, gpus=count), "Qwen/Qwen3-4B", "qlora") for count in (1, 2)
    )
    assert together.basis.gpus == 2
    assert together.basis.free_bytes == second.free, "the fuller one decides"
    assert together.micro_batch <= 8
    assert together.micro_batch * together.gradient_accumulation == 16
    assert together.seconds < alone.seconds
    recipe = recipe_for(together, name="x", sources=["rows.jsonl"], rows=1000)
    assert (recipe.hardware.gpu, recipe.hardware.gpus) == ("auto", 2)
    assert plan(one_gpu, CHAT, gpus=4).candidates[0].basis.gpus == 1
