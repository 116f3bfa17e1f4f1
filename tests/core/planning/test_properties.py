"""What must hold of every plan, whatever the model, the data and the machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.errors import UserError
from core.memory.formula import predict_setup
from core.memory.setup import Setup, Sharding
from core.methods import METHODS, MethodName
from core.models.catalogue import card_for
from core.planning.candidates import Basis, Candidate, Lever
from core.planning.data import DataSize
from core.planning.defaults import defaults
from core.planning.elsewhere import rented
from core.planning.front import ALIKE, front
from core.planning.levers import _choices, levers_for
from core.planning.planner import plan, retune
from core.planning.presets import candidate_of, load_preset
from core.planning.recipes import recipe_for
from core.planning.search import candidate_for, default_length
from core.planning.settings import Settings, priced
from core.planning.sources import BY_HAND, sources
from core.recipe import parse_recipe
from core.training.together import shared
from core.units import GIB
from tests.core.planning.test_planner import machine

MODELS = ("Qwen/Qwen3-8B", "google/gemma-3-4b-it", "openai/gpt-oss-20b", "bigscience/bloom-1b7")
LENGTHS = (64, 256, 512, 513, 1024, 2048, 4096, 16384)
MIXED = DataSize(
    rows=2_000, tokens_per_row=700.0, p95=3000, max_tokens=12_000, padding=0.1,
    cut_at=((256, 1200), (512, 900), (1024, 500), (2048, 120), (4096, 40), (8192, 8), (16384, 0)),
)  # fmt: skip
LONE = replace(
    MIXED, tokens_per_row=300.0, p95=330,
    cut_at=((256, 1990), (512, 1), (1024, 1), (2048, 1), (4096, 1), (8192, 1), (16384, 0)),
)  # fmt: skip


def basis(gib: float, size: DataSize = MIXED, flops: float | None = 165e12) -> Basis:
    return Basis(
        size.rows, size.tokens_per_row, size.p95, size.max_tokens, int(gib * GIB), on_gpu=True,
        flops=flops, cut_at=size.cut_at, padding=size.padding,
    )  # fmt: skip


@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
@pytest.mark.parametrize("model", MODELS)
def test_more_memory_never_makes_a_candidate_worse(model: str, method: MethodName) -> None:
    card, before = card_for(model), None
    for gib in (4, 6, 8, 12, 16, 24, 32, 48, 80, 141, 300):
        after = candidate_for(card, method, basis(gib))
        if before is not None and before.fits:
            assert after.fits
            assert after.score >= before.score
            if after.seq_length == before.seq_length:
                assert after.seconds <= before.seconds
        before = after


def test_more_memory_of_unknown_speed_never_makes_the_star_worse() -> None:
    stars = [
        plan(machine(), MIXED, free_bytes=gib * GIB).candidates[0]
        for gib in (6, 8, 12, 16, 24, 32, 48, 80, 141)
    ]
    assert all(star.seconds is None for star in stars)
    scores = [star.score for star in stars]
    assert scores == sorted(scores)


@pytest.mark.parametrize("model", MODELS)
def test_a_longer_length_never_takes_less(model: str) -> None:
    card = card_for(model)
    long = replace(basis(24), max_tokens=100_000, tokens_per_row=50_000.0, cut_at=())
    for method in METHODS:
        hyper = defaults(1000, card.shape.parameters, method)
        ways = [priced(Settings(card, method, hyper, long, length, 2, 8)) for length in LENGTHS]
        peaks, seconds = [w.prediction.peak for w in ways], [w.seconds for w in ways]
        assert peaks == sorted(peaks), method
        assert seconds == sorted(seconds), method
        for checkpointing in (True, False):
            setup = Setup(card.shape, method, gradient_checkpointing=checkpointing)
            found = [predict_setup(replace(setup, seq_length=at)).peak for at in LENGTHS]
            assert found == sorted(found), (method, checkpointing)


def tight() -> list[Candidate]:
    """Candidates that do not fit, of every kind that a lever is about."""
    one = [
        candidate_for(card_for("Qwen/Qwen3-8B"), method, basis(4, flops=flops))
        for method in ("lora", "qlora", "full", "last-layers")
        for flops in (165e12, None)
    ]
    loose = candidate_for(card_for("Qwen/Qwen3-4B"), "lora", basis(80))
    split = candidate_for(card_for("Qwen/Qwen3-32B"), "full", replace(basis(80), gpus=8))
    return [*one, loose, retune(loose, packing=True), split, retune(split, sharding="fsdp")]


def test_a_lever_that_is_pulled_saves_what_it_said() -> None:
    seen = 0
    for candidate in tight():
        changes = {text: change for text, _, change in _choices(candidate)}
        for lever in levers_for(candidate, retune):
            after = retune(candidate, **changes[lever.text])
            assert candidate.prediction.peak - after.prediction.peak == lever.saves > 0
            if "truncates" in lever.costs and "more than" not in lever.costs:
                told = f"{100 * (after.basis.share_cut(after.seq_length) or 0):.0f} %"
                assert told in lever.costs or "under 1 %" in lever.costs
            seen += 1
    assert seen > 30


def test_a_lever_says_how_much_longer_it_takes() -> None:
    loose = candidate_for(card_for("Qwen/Qwen3-4B"), "lora", basis(80))
    assert loose.micro_batch > 1
    for lever in levers_for(loose, retune):
        if lever.text.startswith("micro-batch"):
            slower = retune(loose, micro_batch=loose.micro_batch // 2)
            times = slower.seconds / loose.seconds
            assert lever.costs == f"same result, {times - 1:.0%} slower"


def test_a_lever_that_gives_up_the_parts_says_so() -> None:
    split = replace(basis(40), gpus=8)
    full = candidate_for(card_for("Qwen/Qwen3-32B"), "full", split, sharding="zero3")
    costs = {one.text: one.costs for one in levers_for(full, retune)}
    assert costs["QLoRA: the base in 4 bits"].startswith("rounds the base, a whole copy on each")
    assert "copy" not in costs["LoRA instead of full"]


def test_a_step_without_waiting_gradients_is_a_lever() -> None:
    def levers(sharding: Sharding, gpus: int) -> list[Lever]:
        few = replace(basis(4), gpus=gpus)
        waiting = candidate_for(card_for("Qwen/Qwen3-8B"), "full", few, sharding=sharding)
        return [one for one in levers_for(waiting, retune) if one.text.startswith("a step of")]

    (alone,) = levers("auto", 1)
    assert alone.text == "a step of 1 row, not of 16"
    assert alone.saves > 4 * GIB
    assert levers("ddp", 8)[0].text == "a step of 8 rows, not of 16"
    assert not levers("fsdp", 8), "gradients in parts are not kept whole"


def test_texts_are_split_and_not_truncated() -> None:
    size = replace(MIXED, format="text")
    result = plan(machine(8), size, models=[card_for("Qwen/Qwen3-32B")], methods=["qlora"])
    (lever,) = [one for one in result.levers if one.text.startswith("length")]
    assert "truncates" not in lever.costs


def test_a_written_recipe_is_predicted_and_timed_as_it_was_planned() -> None:
    for methods in (["lora"], ["qlora"], ["full"], ["dora"]):
        result = plan(machine(24), MIXED, methods=methods, dollars_per_hour=0.5)
        star = result.candidates[0]
        recipe = recipe_for(star, name="x", sources=["rows.jsonl"], rows=MIXED.rows)
        again = candidate_of(parse_recipe(recipe.model_dump(), "it"), result.basis)
        assert again.prediction == star.prediction
        assert (again.seconds, again.dollars) == (star.seconds, star.dollars)


@pytest.mark.parametrize("gpus", [2, 3, 5, 6, 8, 12, 64])
def test_the_rows_of_a_step_are_shared_evenly_as_the_trainer_wants(gpus: int) -> None:
    result = plan(machine(), MIXED, gpu="H100 SXM", gpus=gpus, methods=["lora"])
    star = result.candidates[0]
    assert BY_HAND not in sources(star).values()
    for one in (star, retune(star, micro_batch=8), retune(star, micro_batch=1)):
        recipe = recipe_for(one, name="x", sources=["rows.jsonl"], rows=MIXED.rows)
        part = shared(recipe, gpus).training
        assert part.effective_batch * gpus == recipe.training.effective_batch
        assert part.micro_batch <= one.micro_batch


def test_a_recipe_whose_steps_cannot_be_shared_is_refused() -> None:
    recipe = load_preset("chat-24gb")
    with pytest.raises(UserError, match="3 GPUs cannot share the 16 rows"):
        plan(machine(), MIXED, gpu="H100 SXM", gpus=3, recipe=recipe)
    assert plan(machine(), MIXED, gpu="H100 SXM", gpus=4, recipe=recipe).recommended == 0


def test_a_star_without_a_choice_claims_none() -> None:
    several = plan(machine(), MIXED, gpu="RTX 4090").candidates[0]
    assert several.why.startswith("of what fits, the best expected quality for its time, with 2,0")
    alone = plan(machine(), MIXED, gpu="RTX 4090", recipe=load_preset("chat-24gb")).candidates[0]
    assert alone.why.startswith("all that fits, with 2,000 rows: QLoRA needs")


def test_no_length_reaches_beyond_the_models_positions() -> None:
    card = card_for("bigscience/bloom-1b7")
    assert candidate_for(card, "lora", basis(24), 12_000).seq_length == card.shape.context
    assert {one.seq_length for one in front(card, "lora", basis(24), 12_000)} == {2048}
    assert candidate_for(card, "lora", basis(24), 512).seq_length == 512


def test_dollars_are_time_by_price_everywhere() -> None:
    star = plan(machine(), MIXED, gpu="RTX 4090", dollars_per_hour=0.8).candidates[0]
    assert star.dollars == pytest.approx(star.seconds / 3600 * 0.8)
    assert star.dollars_low == pytest.approx(star.seconds_low / 3600 * 0.8)
    assert star.dollars_high == pytest.approx(star.seconds_high / 3600 * 0.8)
    for one in rented(star):
        for at in (0, 1):
            assert one.dollars[at] == pytest.approx(one.seconds[at] / 3600 * one.price[at])


def test_one_long_row_among_short_ones_does_not_make_the_length() -> None:
    card = card_for("Qwen/Qwen3-8B")
    assert default_length(basis(24, LONE), card) == 512
    assert default_length(basis(24, MIXED), card) == 3008
    star = candidate_for(card, "qlora", basis(24, LONE))
    assert "under 0.1% of the rows" in star.why


def test_a_length_that_was_not_counted_says_the_most_that_it_can_cut() -> None:
    found = basis(24)
    assert found.share_cut(3008) == 0.05
    assert found.cut_text(3008) == "up to 5.0% of the rows"
    assert found.cut_text(4096) == "2.0% of the rows"
    assert found.share_cut(6000) == 0.02
    assert found.share_cut(200) is None
    assert replace(found, cut_at=()).share_cut(3008) is None, "of pairs the lengths are a guess"
    shares = [found.share_cut(length) or 0.0 for length in range(256, 13_000, 64)]
    assert shares == sorted(shares, reverse=True)


def test_no_two_choices_for_a_model_are_alike() -> None:
    size = replace(
        MIXED, tokens_per_row=300.0, p95=500, max_tokens=540, cut_at=((512, 6), (1024, 0))
    )
    result = plan(machine(24), size, models=[card_for("Qwen/Qwen3-4B")], methods=["lora"])
    assert len(result.candidates) > 3
    for one in result.candidates:
        for other in result.candidates:
            if other is one or _cut(other) > _cut(one):
                continue
            as_quick = other.seconds <= one.seconds / (1 - ALIKE)
            as_lean = other.prediction.peak <= one.prediction.peak / (1 - ALIKE)
            assert not (as_quick and as_lean)


def _cut(candidate: Candidate) -> float:
    return candidate.basis.share_cut(candidate.seq_length) or 0.0


def test_an_adapter_that_reaches_no_expert_is_not_starred() -> None:
    size = replace(MIXED, rows=100_000, tokens_per_row=110.0, p95=150, max_tokens=170, cut_at=())
    for gpu in ("L40S", "H100 SXM", "H200"):
        star = plan(machine(), size, gpu=gpu).candidates[0]
        assert star.model.shape.experts is None
        assert star.method != "dora", "it gains nothing that is worth its time"


def test_fewer_rows_at_a_time_where_padding_costs_more() -> None:
    size = replace(LONE, padding=0.1672)
    on_cpu = replace(basis(20, size), on_gpu=False, flops=220e9)
    card = card_for("HuggingFaceTB/SmolLM2-135M-Instruct")
    quick = candidate_for(card, "lora", on_cpu, 512)
    others = [retune(quick, micro_batch=rows, packing=False).seconds for rows in (1, 2, 4)]
    assert quick.seconds <= min(others) < others[-1]


def test_a_cpu_pages_no_states_to_its_own_memory() -> None:
    on_cpu = replace(basis(3), on_gpu=False, flops=220e9)
    card = card_for("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert {one.optimizer for one in front(card, "full", on_cpu)} <= {"adamw"}
    assert candidate_for(card, "full", replace(on_cpu, free_bytes=GIB)).optimizer == "adamw"


def test_what_has_to_be_downloaded_takes_its_time() -> None:
    card = replace(card_for("Qwen/Qwen3-8B"), cached=True)
    there = candidate_for(card, "qlora", basis(24))
    fetched = candidate_for(replace(card, cached=False), "qlora", basis(24))
    elsewhere = candidate_for(card, "qlora", replace(basis(24), elsewhere=True))
    assert fetched.seconds == elsewhere.seconds > there.seconds + 60
