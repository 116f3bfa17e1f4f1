"""Packing as a choice of the planner: when it can be, what it costs, what it saves."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import product
from typing import get_args

import pytest

from core.data.training_rows import TokenRow
from core.memory.formula import predict_setup
from core.memory.setup import Setup
from core.methods import METHODS, MethodName
from core.models.catalogue import card_for, load_catalogue
from core.models.families import keeps_rows_apart
from core.objectives import OBJECTIVES, ObjectiveName
from core.planning.candidates import Basis, Candidate
from core.planning.data import DataSize
from core.planning.front import front
from core.planning.levers import levers_for
from core.planning.planner import plan
from core.planning.recipes import recipe_for
from core.planning.retuning import retune
from core.planning.search import candidate_for, start_at
from core.planning.settings import packing_refusal, packs, settings_of
from core.recipe import Recipe, Switch
from core.training import choices
from core.units import GIB
from tests.core.planning.test_planner import CHAT, machine

MODEL = "Qwen/Qwen3-8B"
SHORT = DataSize(rows=1000, tokens_per_row=60.0, p95=110, max_tokens=128, padding=0.35)


@cache
def basis_of(size: DataSize = CHAT, *, flash: bool = False, free: float = 24) -> Basis:
    data = plan(machine(free), size, models=[card_for(MODEL)], methods=["lora"]).basis
    assert data is not None
    return replace(data, flash=flash)


def packed_of(candidates: list[Candidate]) -> set[bool]:
    return {one.packed for one in candidates}


@pytest.mark.parametrize("method", get_args(MethodName))
@pytest.mark.parametrize("objective", get_args(ObjectiveName))
def test_the_planner_decides_as_the_trainer_does(
    method: MethodName, objective: ObjectiveName
) -> None:
    wants: tuple[Switch, ...] = ("auto", True, False)
    for wanted, flash in product(wants, (True, False)):
        tree = {"model": "m", "data": "d", "method": method, "objective": objective}
        recipe = Recipe.model_validate({**tree, "training": {"packing": wanted}})
        kernel: choices.Attention = "flash_attention_2" if flash else "sdpa"
        trained = choices.packing(recipe, kernel, lambda: True)[0]
        basis = replace(basis_of(flash=flash), objective=objective)
        settings = start_at(card_for(MODEL), method, basis, 512, "auto")
        assert packs(settings.with_packing(wanted)) is trained


def test_models_whose_attention_knows_no_rows_are_not_packed() -> None:
    basis = basis_of(replace(SHORT, padding=0.6), flash=True)
    for model, can in ((MODEL, True), ("bigscience/bloom-1b7", False)):
        one = candidate_for(card_for(model), "lora", basis)
        assert one.packed is can
        assert recipe_for(one, name="x", sources=["y"], rows=9).training.packing is can
        assert (packing_refusal(settings_of(one)) is None) is can


def test_with_flash_attention_packing_saves_the_padding_and_costs_nothing() -> None:
    basis = basis_of(replace(CHAT, padding=0.2), flash=True)
    chosen = candidate_for(card_for(MODEL), "qlora", basis)
    plain = retune(chosen, packing=False)
    assert chosen.packed
    assert chosen.prediction.peak == plain.prediction.peak
    assert chosen.seconds is not None
    assert plain.seconds is not None
    assert 60 < chosen.seconds < plain.seconds
    steps = [one for one in front(card_for(MODEL), "qlora", basis) if one.micro_batch > 1]
    assert packed_of(steps) == {True}, "what is only slower is dropped"
    tidy = basis_of(replace(CHAT, padding=0.01), flash=True)
    assert candidate_for(card_for(MODEL), "qlora", tidy).packed, (
        "no mask: nothing speaks against it"
    )


def test_under_a_mask_it_is_proposed_where_padding_costs_more_than_attention() -> None:
    wasteful = basis_of(SHORT)
    chosen = candidate_for(card_for(MODEL), "qlora", wasteful)
    assert chosen.packed
    assert recipe_for(chosen, name="x", sources=["y"], rows=9).training.packing is True
    assert packed_of(front(card_for(MODEL), "qlora", wasteful)) >= {True}
    tidy = candidate_for(card_for(MODEL), "qlora", basis_of(replace(SHORT, padding=0.02)))
    assert not tidy.packed
    assert recipe_for(tidy, name="x", sources=["y"], rows=9).training.packing is False
    uncounted = candidate_for(card_for(MODEL), "qlora", basis_of(replace(SHORT, padding=None)))
    assert not uncounted.packed
    long = DataSize(rows=1000, tokens_per_row=4000.0, p95=7000, max_tokens=8000, padding=0.1)
    assert not candidate_for(card_for("Qwen/Qwen3-1.7B"), "qlora", basis_of(long)).packed


def test_a_mask_of_all_tokens_by_all_tokens_takes_memory() -> None:
    shape = card_for(MODEL).shape

    def peaks(rows: int, checkpointing: bool) -> tuple[int, int]:
        plain = Setup(shape, "lora", micro_batch=rows, seq_length=512,
                      gradient_checkpointing=checkpointing)  # fmt: skip
        masked = replace(plain, one_mask=True)
        return predict_setup(plain).allocated, predict_setup(masked).allocated

    for checkpointing, layers in ((False, shape.layers), (True, 1)):
        few, many = peaks(4, checkpointing), peaks(16, checkpointing)
        tokens = 16 * 512
        assert few[1] > few[0]
        beyond = many[1] - many[0]
        assert beyond >= 2 * tokens**2 * layers, "kept as 16-bit numbers for every layer at once"
        assert beyond > 5 * (few[1] - few[0]), "it grows faster than the rows"


def test_what_does_not_fit_packed_is_offered_unpacked() -> None:
    basis = basis_of(replace(CHAT, max_tokens=4000, p95=3000, padding=0.3))
    tight = retune(candidate_for(card_for(MODEL), "qlora", basis), packing=True, micro_batch=8)
    (lever,) = [one for one in levers_for(tight, retune) if "below each other" in one.text]
    assert lever.saves > GIB
    assert retune(tight, packing=False).prediction.peak == tight.prediction.peak - lever.saves


@pytest.mark.parametrize("objective", ["dpo", "orpo", "kto"])
def test_rows_that_are_compared_are_never_packed(objective: ObjectiveName) -> None:
    size = replace(SHORT, format="preference", cut_at=())
    star = plan(machine(24), size, objective=objective, methods=["lora"]).candidates[0]
    assert not star.packed
    assert not retune(star, packing=True).packed
    assert OBJECTIVES[objective].title in (packing_refusal(settings_of(star)) or "")


def test_parts_of_a_model_pack_no_rows() -> None:
    basis = replace(basis_of(SHORT, flash=True), gpus=2)
    star = candidate_for(card_for(MODEL), "lora", basis)
    assert star.packed
    split = retune(star, sharding="fsdp")
    assert not split.packed
    assert "parts" in (packing_refusal(settings_of(split)) or "")
    assert METHODS["lora"].can_be_split


def test_which_models_keep_packed_rows_apart_was_tried_on_each_kind() -> None:
    """Small ones with large random weights, so that what leaks from row to row shows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from core.training.packing import keeps_rows_apart as tried

    rows = [TokenRow(n, list(range(n, n + 24)), list(range(n, n + 24))) for n in (5, 90)]
    shapes = {card.shape.model_type: card.shape for card in load_catalogue()}
    for kind, shape in shapes.items():
        config = AutoConfig.for_model(kind, **SMALL, **OWN.get(kind, {}))
        model = AutoModelForCausalLM.from_config(config).eval()
        assert tried(model, rows) is keeps_rows_apart(shape), kind


SMALL: dict[str, object] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "initializer_range": 0.2,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
OWN: dict[str, dict[str, object]] = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "gemma2": {"head_dim": 16, "sliding_window": 16},
    "gemma3_text": {"head_dim": 16, "sliding_window": 16},
    "gpt_oss": {"head_dim": 16, "sliding_window": 16, **EXPERTS},
    "llama4_text": {"head_dim": 16, "intermediate_size_mlp": 96, **EXPERTS},
    "mixtral": EXPERTS,
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {"head_dim": 16, "moe_intermediate_size": 32, **EXPERTS},
}
