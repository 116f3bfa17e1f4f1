"""What cannot fit is refused before anything heavy is loaded."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.data.prepared import Prepared, prepare
from core.data.tokenizer import load_tokenizer
from core.errors import UserError
from core.hardware.machine import Machine
from core.methods import METHODS
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.training import preflight
from core.training.preflight import (
    check_disk,
    check_merge,
    disk_bytes,
    expected_memory,
    leanest,
    levers,
    wants_checkpointing,
)

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def prepared(make_recipe: MakeRecipe, tiny_model: Path, tmp_path: Path) -> Prepared:
    return prepare(make_recipe(), load_tokenizer(tiny_model), tmp_path / "data")


def test_a_small_disk_is_refused_with_the_levers(
    make_recipe: MakeRecipe,
    tiny_model: Path,
    prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = RunDirectory(tmp_path)
    check_disk(run, make_recipe(), tiny_model, prepared)
    usage = shutil.disk_usage(tmp_path)._replace(free=5_000_000)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"4\.77 MiB is free") as caught:
        check_disk(run, make_recipe(), tiny_model, prepared)
    assert "keep_checkpoints" in caught.value.remedy


def test_what_a_resumed_run_has_on_disk_counts(
    make_recipe: MakeRecipe,
    tiny_model: Path,
    prepared: Prepared,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = RunDirectory(tmp_path)
    needed = disk_bytes(make_recipe(), tiny_model, prepared)
    usage = shutil.disk_usage(tmp_path)._replace(free=needed - 1000)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError):
        check_disk(run, make_recipe(), tiny_model, prepared)
    (run.checkpoints / "checkpoint-3").mkdir(parents=True)
    (run.checkpoints / "checkpoint-3" / "optimizer.pt").write_bytes(b"0" * 1000)
    check_disk(run, make_recipe(), tiny_model, prepared)


def test_more_checkpoints_and_more_weights_need_more_disk(
    make_recipe: MakeRecipe, tiny_model: Path, prepared: Prepared
) -> None:
    few = disk_bytes(make_recipe(training={"keep_checkpoints": 1}), tiny_model, prepared)
    many = disk_bytes(make_recipe(training={"keep_checkpoints": 9}), tiny_model, prepared)
    full = disk_bytes(make_recipe(method={"name": "full"}), tiny_model, prepared)
    unmerged = disk_bytes(make_recipe(merge=False), tiny_model, prepared)
    weights = (tiny_model / "model.safetensors").stat().st_size
    assert few < many
    assert full > disk_bytes(make_recipe(), tiny_model, prepared)
    assert disk_bytes(make_recipe(), tiny_model, prepared) - unmerged == weights


def test_a_checkpoint_of_parts_holds_what_is_trained_twice(
    make_recipe: MakeRecipe, tiny_model: Path, prepared: Prepared
) -> None:
    """The trainer's own copy, and FSDP's to go on from; and a tied embedding under both names.
    Two processes on a CPU left model.safetensors of 503,144 bytes and pytorch_model_fsdp.bin of
    508,621 where one left 400,664; with LoRA adapters of 36,256 and 146,125, where one left
    the first alone."""

    def needed(method: str | dict[str, object], **hardware: object) -> int:
        recipe = make_recipe(
            method=method, hardware=hardware, training={"keep_checkpoints": 1}, merge=False
        )
        return disk_bytes(recipe, tiny_model, prepared)

    weights = (tiny_model / "model.safetensors").stat().st_size
    alone, copies = needed("full"), needed("full", gpus=2, sharding="ddp")
    assert copies == alone == needed("full", gpus=1, sharding="auto")
    parts = needed("full", gpus=2, sharding="fsdp") - copies
    assert parts == needed("full", gpus=2, sharding="auto") - copies
    one = (503_144 + 508_621) - 400_664
    assert parts == pytest.approx(3 * one + (503_144 - weights), rel=0.02)
    lora = {"name": "lora", "rank": 4}
    more = needed(lora, gpus=2, sharding="fsdp") - needed(lora)
    assert more == pytest.approx(3 * 146_125, rel=0.1)  # the file has a kilobyte for each tensor
    assert needed("prompt", gpus=2) == needed("prompt")  # is never split


def test_activations_are_kept_where_they_fit(
    make_recipe: MakeRecipe, tiny_model: Path, prepared: Prepared
) -> None:
    recipe = make_recipe()
    expected = expected_memory(recipe, tiny_model, prepared, gradient_checkpointing=False)
    assert expected is not None
    high = expected.high
    assert not wants_checkpointing(recipe, tiny_model, prepared, None)
    assert not wants_checkpointing(recipe, tiny_model, prepared, high)
    assert wants_checkpointing(recipe, tiny_model, prepared, high - 1)
    forced = make_recipe(training={"gradient_checkpointing": True})
    assert wants_checkpointing(forced, tiny_model, prepared, None)
    assert not wants_checkpointing(make_recipe(method="prefix"), tiny_model, prepared, 0)


def test_an_open_optimiser_is_taken_for_the_usual_one_or_the_leanest(
    make_recipe: MakeRecipe, tiny_model: Path, prepared: Prepared
) -> None:
    def needed(recipe: Recipe) -> int:
        expected = expected_memory(recipe, tiny_model, prepared, gradient_checkpointing=True)
        assert expected is not None
        return expected.peak

    auto, usual, paged = (
        make_recipe(method="full", training={"optimizer": name})
        for name in ("auto", "adamw", "paged-adamw-8bit")
    )
    assert needed(auto) == needed(usual) > needed(leanest(usual))
    assert needed(leanest(auto)) == needed(leanest(paged)) < needed(leanest(usual))


def test_merging_takes_the_base_in_sixteen_bits(make_recipe: MakeRecipe, tiny_model: Path) -> None:
    """Its file holds 32 bits a weight. What is not merged needs no room for it."""
    weights = (tiny_model / "model.safetensors").stat().st_size
    small, enough = (machine(int(weights * share)) for share in (0.4, 0.6))
    for name, method in METHODS.items():
        recipe = make_recipe(method=name)
        assert recipe.ends_with_merge == (method.has_adapter and method.merges)
        check_merge(recipe, tiny_model, enough)
        if recipe.ends_with_merge:
            with pytest.raises(UserError, match="Merging takes"):
                check_merge(recipe, tiny_model, small)
        else:
            check_merge(recipe, tiny_model, small)
    exact = make_recipe(model={"id": str(tiny_model), "precision": "fp32"})
    with pytest.raises(UserError, match="Merging takes"):
        check_merge(exact, tiny_model, enough)


def machine(ram: int) -> Machine:
    return Machine(0.0, (), "no NVIDIA GPU", None, "CPU", 8, 50.0, ram, ram, None, None)


def test_disk_is_asked_for_what_a_method_leaves(
    make_recipe: MakeRecipe, tiny_model: Path, prepared: Prepared
) -> None:
    def needed(name: str) -> int:
        return disk_bytes(make_recipe(method=name), tiny_model, prepared)

    assert needed("last-layers") < needed("full")  # checkpoints of the last layers alone
    assert needed("prompt") < needed("lora")  # nothing is merged


@pytest.mark.parametrize(
    ("method", "lever"),
    [
        ("full", "Use lora instead of full, or use qlora, "),
        ("lora", "Use qlora, "),
        ("vera", "Set method.bits to 4, "),
        ("pissa", "Use qlora, "),
        ("qlora", "Lower data.max_length"),
    ],
)
def test_the_levers_are_those_of_the_method(
    make_recipe: MakeRecipe, prepared: Prepared, method: str, lever: str
) -> None:
    assert levers(make_recipe(method=method), prepared).startswith(lever)


def test_importing_the_worker_loads_nothing_heavy() -> None:
    import subprocess

    code = "import sys, core.training.worker; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert "core.training.worker" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "trl", "peft", "bitsandbytes"}
