"""The step before the first finds out what does not fit, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.data.prepared import Prepared, prepare
from core.data.tokenizer import load_tokenizer
from core.errors import UserError
from core.hardware.machine import Gpu, Machine
from core.hardware.readings import read_machine
from core.recipe import Recipe, load_recipe
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.training import trainer
from core.training.preflight import (
    NO_ROWS_YET,
    _least,
    check_memory,
    check_merge,
    expected_memory,
    levers,
)
from core.training.trainer import Tuner

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]


def told(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


@pytest.mark.parametrize(
    ("optimizer", "accumulation", "method"),
    [("adamw", 2, "lora"), ("adamw-8bit", 1, "lora"), ("adamw", 1, "full")],
)
def test_the_training_is_the_same_bit_for_bit(
    new_run: NewRun,
    train_here: TrainHere,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    accumulation: int,
    method: str,
) -> None:
    """With dropout, so that a random number too many would show."""
    options: dict[str, Any] = {
        "method": {"name": method, "rank": 4, "dropout": 0.2},
        "training": {
            "max_steps": 4,
            "optimizer": optimizer,
            "gradient_accumulation": accumulation,
            "weight_decay": 0.1,
            "learning_rate": 5e-3,
        },
    }
    plain, probed = new_run(**options), new_run(**options)
    assert train_here(plain) == 0
    monkeypatch.setattr(trainer, "should_probe", lambda: True)
    assert train_here(probed) == 0
    [found] = told(probed, "probe")
    assert (found["step"], found["rows"]) == (0, 4)
    assert [e["loss"] for e in told(plain, "log")] == [e["loss"] for e in told(probed, "log")]
    ours, theirs = (weights(run) for run in (plain, probed))
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[key] == theirs[key]).all()) for key in ours)


def weights(run: RunDirectory) -> dict[str, Any]:
    if run.adapter.is_dir():
        return dict(load_file(run.adapter / "adapter_model.safetensors"))
    return dict(load_file(run.merged / "model.safetensors"))


def test_it_sees_the_longest_rows_and_the_optimisers_state(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths, states = [], []
    original = Tuner.compute_loss

    def spy(self: Any, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        lengths.append(inputs["labels"].shape[1])
        states.append(len(self.optimizer.state))
        return original(self, model, inputs, *rest, **options)

    monkeypatch.setattr(Tuner, "compute_loss", spy)
    monkeypatch.setattr(trainer, "should_probe", lambda: True)
    run = new_run(training={"max_steps": 3})
    assert train_here(run) == 0
    assert lengths[0] == lengths[1] == max(lengths)
    assert states[:2] == [0, 28]
    assert states[2] == 0


def limit(patch: pytest.MonkeyPatch, rows: int) -> list[int]:
    """Micro-batches of more rows run out of memory; the sizes that were tried."""
    original = Tuner.compute_loss
    tried: list[int] = []

    def limited(self: Any, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        tried.append(len(inputs["labels"]))
        if tried[-1] > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, model, inputs, *rest, **options)

    patch.setattr(Tuner, "compute_loss", limited)
    patch.setattr(trainer, "should_probe", lambda: True)
    return tried


def test_what_does_not_fit_is_halved_before_the_first_step(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = limit(monkeypatch, 1)
    run = new_run(training={"micro_batch": 4, "gradient_accumulation": 2, "max_steps": 2})
    assert train_here(run) == 0
    assert sizes[:3] == [4, 2, 1]
    training = load_recipe(run.recipe).training
    assert (training.micro_batch, training.gradient_accumulation) == (1, 8)
    codes = [event["code"] for event in told(run, "warning")]
    assert codes == ["out-of-memory-recovered"] * 2
    assert [event["step"] for event in told(run, "log")] == [1, 2]


def test_what_never_fits_ends_before_the_first_step(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, 0)
    run = new_run(training={"micro_batch": 2})
    assert train_here(run) == 1
    [error] = told(run, "error")
    assert error["code"] == "gpu-out-of-memory"
    assert "data.max_length" in error["remedy"]
    assert "micro_batch" not in error["remedy"]
    assert not told(run, "log")


@pytest.fixture
def prepared(make_recipe: Callable[..., Recipe], tiny_model: Path, tmp_path: Path) -> Prepared:
    return prepare(make_recipe(), load_tokenizer(tiny_model), tmp_path / "data")


def machine(ram: int, vram: int | None = None) -> Machine:
    gpus = () if vram is None else (Gpu(0, name="Small GPU", total=vram, free=vram),)
    return replace(read_machine(), ram_total=ram, ram_available=ram, gpus=gpus)


def test_too_little_memory_is_refused_before_loading(
    make_recipe: Callable[..., Recipe], tiny_model: Path, prepared: Prepared
) -> None:
    recipe = make_recipe(method={"name": "full"})
    check_memory(recipe, tiny_model, prepared, machine(8 * 1024**3))
    with pytest.raises(UserError, match=r"of RAM; 100 MiB is free") as caught:
        check_memory(recipe, tiny_model, prepared, machine(100 * 1024**2))
    assert caught.value.remedy.startswith("Use lora instead of full, or use qlora")
    check_memory(recipe, tiny_model, prepared, machine(1, 8 * 1024**3))
    with pytest.raises(UserError, match=r"Small GPU has 100 MiB"):
        check_memory(recipe, tiny_model, prepared, machine(1, 100 * 1024**2))
    with pytest.raises(UserError) as before_reading:
        check_memory(recipe, tiny_model, NO_ROWS_YET, machine(1, 100 * 1024**2))
    assert "longest row" not in before_reading.value.remedy


def test_what_others_hold_of_the_gpu_is_not_there(
    make_recipe: Callable[..., Recipe], tiny_model: Path, prepared: Prepared
) -> None:
    busy = Gpu(0, name="Busy GPU", total=8 * 1024**3, free=100 * 1024**2)
    with pytest.raises(UserError, match=r"Busy GPU has 100 MiB free of 8\.00 GiB"):
        check_memory(make_recipe(), tiny_model, prepared, replace(machine(1), gpus=(busy,)))


def test_parts_of_a_model_need_less_each(
    make_recipe: Callable[..., Recipe], tiny_model: Path, prepared: Prepared
) -> None:
    recipe = make_recipe(method={"name": "full"}, hardware={"gpus": 4})
    expected = expected_memory(recipe, tiny_model, prepared, gradient_checkpointing=True)
    assert expected is not None
    alone, four = (_least(expected, recipe, count) for count in (1, 4))
    assert alone == expected.low
    held = expected.parts.weights + expected.parts.gradients + expected.parts.optimizer
    assert alone - four == pytest.approx(held * 3 / 4, rel=0.01)
    copies = make_recipe(method={"name": "full"}, hardware={"gpus": 4, "sharding": "ddp"})
    assert _least(expected, copies, 4) == expected.low
    assert "set hardware.sharding to fsdp" in levers(copies, prepared)


def test_a_merge_that_fits_nowhere_is_refused(
    make_recipe: Callable[..., Recipe], tiny_model: Path
) -> None:
    check_merge(make_recipe(), tiny_model, machine(1024**3))
    check_merge(make_recipe(), tiny_model, machine(1024, 1024**3))
    check_merge(make_recipe(merge=False), tiny_model, machine(1024))
    check_merge(make_recipe(method={"name": "full"}), tiny_model, machine(1024))
    with pytest.raises(UserError, match="Merging takes") as caught:
        check_merge(make_recipe(), tiny_model, machine(1024))
    assert "merge: false" in caught.value.remedy
