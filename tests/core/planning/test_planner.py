from __future__ import annotations

from dataclasses import replace

import pytest

from core.errors import UserError
from core.hardware.machine import Gpu, Machine
from core.memory.formula import predict_setup
from core.memory.measured import Seen, keep
from core.memory.setup import Setup
from core.planning.calibration import installed_stack
from core.planning.candidates import Candidate, Plan
from core.planning.data import DataSize
from core.planning.gpus import gpu_named, known_gpus
from core.planning.levers import levers_for
from core.planning.planner import plan, retune
from core.planning.recipes import recipe_for
from core.recipe import parse_recipe
from core.units import GIB

CHAT = DataSize(rows=1000, tokens_per_row=300.0, p95=600, max_tokens=1200)


def machine(free_gib: float | None = None, name: str = "NVIDIA GeForce RTX 4090") -> Machine:
    memory = int((free_gib or 0) * GIB)
    gpu = Gpu(index=0, name=name, total=memory, used=0, free=memory, capability=(8, 9))
    return Machine(
        taken=0.0,
        gpus=(gpu,) if free_gib else (),
        gpu_note="" if free_gib else "no NVIDIA GPU",
        driver=None,
        cpu_name="a CPU",
        cores=2,
        cpu_percent=0.0,
        ram_total=24 * GIB,
        ram_available=20 * GIB,
        disk_total=None,
        disk_free=None,
    )


def found(result: Plan, model: str, method: str) -> Candidate:
    return next(c for c in result.candidates if c.model.id == model and c.method == method)


def test_24_gib_hold_qlora_of_8b_and_not_full_7b() -> None:
    result = plan(machine(24), CHAT)
    assert found(result, "meta-llama/Llama-3.1-8B-Instruct", "qlora").fits
    assert found(result, "Qwen/Qwen2.5-7B-Instruct", "qlora").fits
    full = found(result, "mistralai/Mistral-7B-Instruct-v0.3", "full")
    assert not full.fits
    assert "does not fit" in full.why
    assert result.recommended == 0
    star = result.candidates[0]
    assert star.fits
    assert star.model.instruct
    assert star.prediction.high <= 24 * GIB
    assert "1,000 rows" in star.why


def test_6_gib_find_something_that_trains() -> None:
    result = plan(machine(6), CHAT)
    assert result.recommended is not None
    assert result.candidates[0].prediction.high <= 6 * GIB


def test_without_a_gpu_it_plans_for_the_cpu_and_warns_of_the_time() -> None:
    result = plan(machine(), CHAT)
    assert not result.on_gpu
    assert result.candidates[0].model.id == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert "No NVIDIA GPU" in result.note
    assert "Expect " in result.note
    assert result.candidates[0].hyper.learning_rate == 1e-3


def test_where_nothing_fits_the_levers_say_what_would_help() -> None:
    result = plan(machine(0.7), CHAT)
    assert result.recommended is None
    assert result.levers
    assert list(result.levers) == sorted(result.levers, key=lambda lever: -lever.saves)
    assert all(lever.saves > 0 and lever.costs for lever in result.levers)


def test_what_fits_comes_first_and_the_effective_batch_stays() -> None:
    result = plan(machine(24), CHAT)
    fits = [candidate.fits for candidate in result.candidates]
    assert fits == sorted(fits, reverse=True)
    for candidate in result.candidates:
        assert candidate.micro_batch * candidate.gradient_accumulation == 16
        assert candidate.fits == (candidate.prediction.high <= result.free_bytes)


def test_dollars_follow_the_price_and_the_time() -> None:
    cheap = plan(machine(24), CHAT, dollars_per_hour=1.0).candidates[0]
    assert cheap.seconds is not None
    assert cheap.dollars == pytest.approx(cheap.seconds / 3600)
    assert plan(machine(24), CHAT).candidates[0].dollars is None


def test_a_gpu_of_unknown_speed_gets_no_times() -> None:
    result = plan(machine(24, name="NVIDIA Prototype"), CHAT)
    assert result.candidates[0].seconds is None
    assert "speed is not known" in result.note


def test_each_note_is_a_sentence() -> None:
    note = plan(machine(1, name="NVIDIA Prototype"), CHAT, gpus=3).note
    assert note.startswith("Only 1.00 GiB of GPU memory")
    assert ". This GPU's speed is not known, so no times are given. This machine has 1 GPU" in note
    assert note.endswith(".")
    assert ";" not in note


def test_several_whole_gpus_are_timed_as_what_they_are_beside_a_slice_with_more_memory() -> None:
    whole = replace(machine(24).gpus[0], free=10 * GIB)
    part = replace(whole, index=1, name="NVIDIA A100 MIG 3g.40gb", free=40 * GIB)
    cut = replace(whole, index=1, name="NVIDIA A100", mig=True, slices=(part,))
    several = replace(machine(24), gpus=(whole, cut, replace(whole, index=2)))
    assert plan(several, CHAT).basis.flops is None
    together = plan(several, CHAT, gpus=2)
    assert together.basis.device == plan(machine(24), CHAT).basis.device
    assert together.candidates[0].seconds is not None


def test_planning_for_a_gpu_elsewhere() -> None:
    result = plan(machine(), CHAT, gpu="h100 sxm")
    assert result.on_gpu
    assert result.free_bytes > 70 * GIB
    assert result.candidates[0].dollars is not None
    with pytest.raises(UserError, match="No GPU called"):
        plan(machine(), CHAT, gpu="abacus")
    assert plan(machine(), CHAT, free_bytes=10 * GIB).free_bytes == 10 * GIB


def test_hidden_gpus_are_not_planned_for() -> None:
    hidden = machine(24)
    hidden = replace(hidden, gpus=(replace(hidden.gpus[0], visible=False),))
    assert not plan(hidden, CHAT).on_gpu


def test_turned_knobs_price_the_candidate_anew() -> None:
    star = plan(machine(24), CHAT).candidates[0]
    assert retune(star) == replace(star, why=retune(star).why)
    smaller = retune(star, micro_batch=1)
    assert smaller.gradient_accumulation == 16
    assert smaller.prediction.peak < star.prediction.peak
    assert retune(star, rank=64).hyper.alpha == 128
    assert retune(star, seq_length=256).prediction.peak < star.prediction.peak
    assert retune(star, gradient_accumulation=2).hyper.effective_batch == 2 * star.micro_batch
    assert retune(star, gradient_checkpointing=False).gradient_checkpointing is False
    assert retune(star, gradient_checkpointing=False).prediction.peak > star.prediction.peak
    assert retune(star, method="qlora").prediction.parts.weights < star.prediction.parts.weights


def test_a_longer_length_than_any_row_needs_no_more_memory() -> None:
    star = plan(machine(24), CHAT).candidates[0]
    assert retune(star, seq_length=4096).prediction.peak == star.prediction.peak


def test_the_recipe_is_complete_and_says_what_was_chosen() -> None:
    star = plan(machine(24), CHAT, dollars_per_hour=0.5).candidates[0]
    recipe = recipe_for(
        star, name="chat", sources=["rows.jsonl"], mapping={"prompt": "question"}, rows=1000
    )
    assert parse_recipe(recipe.model_dump(), "it") == recipe
    assert recipe.model.id == star.model.id
    assert recipe.training.effective_batch == 16
    assert recipe.data.max_length == star.seq_length
    assert recipe.data.mapping == {"prompt": "question"}
    assert recipe.training.gradient_checkpointing is star.gradient_checkpointing
    assert recipe.hardware.dollars_per_hour == 0.5


@pytest.mark.parametrize(
    ("driver", "gib", "name"),
    [
        ("NVIDIA H200", 141, "H200"),
        ("NVIDIA H100 80GB HBM3", 80, "H100 SXM"),
        ("NVIDIA H100 PCIe", 80, "H100 PCIe"),
        ("NVIDIA A100-SXM4-80GB", 80, "A100 80GB"),
        ("NVIDIA A100-SXM4-40GB", 40, "A100 40GB"),
        ("NVIDIA GeForce RTX 4090", 24, "RTX 4090"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 16, None),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 16, "RTX 4070 Ti SUPER"),
        ("NVIDIA GeForce RTX 4080 Laptop GPU", 16, None),
        ("NVIDIA GeForce RTX 5090 D", 32, None),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", 96, "RTX PRO 6000 Max-Q"),
        ("NVIDIA L40S", 45, "L40S"),
        ("NVIDIA L4", 22.5, "L4"),
        ("Tesla T4", 15, "T4"),
        ("Tesla V100-SXM2-32GB", 32, "V100 32GB"),
        ("NVIDIA A10G", 22.5, "A10G"),
        ("Radeon", 24, None),
    ],
)
def test_drivers_names_find_their_gpu(driver: str, gib: float, name: str | None) -> None:
    gpu = gpu_named(driver, int(gib * GIB))
    assert (gpu.name if gpu else None) == name


@pytest.mark.parametrize(
    ("typed", "name"),
    [("4090", "RTX 4090"), ("5070", "RTX 5070"), ("5070 ti", "RTX 5070 Ti"), ("a6000", "RTX A6000"),
     ("rtx", None), ("", None), ("RTX 3060 Ti", "RTX 3060 Ti"), ("h100", "H100 PCIe")],
)  # fmt: skip
def test_a_person_may_leave_words_out_where_one_card_is_meant(typed: str, name: str | None) -> None:
    gpu = gpu_named(typed)
    assert (gpu.name if gpu else None) == name


def test_every_gpu_preset_is_found_by_its_own_name() -> None:
    for gpu in known_gpus():
        words = " ".join((gpu.name, *gpu.match))
        assert gpu_named(words, gpu.memory) == gpu
        assert gpu.price is None or gpu.price[0] <= gpu.price[1]


def test_a_shorter_length_says_what_it_saves_and_how_many_rows_it_cuts() -> None:
    size = replace(CHAT, p95=1800, max_tokens=4000, cut_at=((1024, 300), (2048, 40)))
    big = found(plan(machine(24), size, seq_length=4096), "Qwen/Qwen3-32B", "lora")
    lever = next(one for one in levers_for(big, retune) if one.text.startswith("length"))
    assert (lever.text, lever.costs) == ("length 4096 → 2048", "truncates 4 % of rows")
    assert lever.saves > GIB


def test_a_step_measured_on_this_gpu_corrects_the_table() -> None:
    before = found(plan(machine(24), CHAT), "Qwen/Qwen3-8B", "qlora")
    device = before.basis.device
    setup = Setup(before.model.shape, "qlora", micro_batch=4, seq_length=2048)
    parts = predict_setup(setup).parts
    moves = parts.activations + parts.loss + parts.workspace
    allocated = parts.total - parts.runtime + moves // 2
    keep(Seen(device, installed_stack(), setup, allocated, allocated, allocated + GIB))
    after = retune(found(plan(machine(24), CHAT), "Qwen/Qwen3-8B", "qlora"),
                   micro_batch=before.micro_batch,
                   gradient_checkpointing=before.gradient_checkpointing)  # fmt: skip
    assert (before.prediction.how, after.prediction.how) == ("formula", "measured")
    assert after.prediction.parts.weights == before.prediction.parts.weights
    assert after.prediction.parts.activations > 1.2 * before.prediction.parts.activations
