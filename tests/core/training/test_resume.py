"""A run that died and was resumed ends as if it had never died."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from core.runs.directory import RunDirectory
from core.runs.events import EventReader
from core.runs.history import RunHistory
from core.training import trainer
from core.training.watch import Watch

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
# Dropout makes the random state count; the last batch of an epoch is smaller than the others.
OPTIONS: dict[str, Any] = {"method": {"dropout": 0.2, "rank": 4}, "training": {"epochs": 2}}


class Killed(BaseException):
    """Ends the worker at a chosen moment, with nothing tidied up."""


def curve(run: RunDirectory) -> list[tuple[int, float]]:
    history = RunHistory()
    history.update(EventReader(run.events).read())
    return list(history.loss)


def assert_same(run: RunDirectory, other: RunDirectory) -> None:
    assert curve(run) == curve(other)
    name = "adapter_model.safetensors"
    ours, theirs = load_file(run.adapter / name), load_file(other.adapter / name)
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[key] == theirs[key]).all()) for key in ours)


@pytest.fixture(scope="session")
def finished() -> dict[str, RunDirectory]:
    """The run that was never killed, trained once for all tests."""
    return {}


@pytest.fixture
def uninterrupted(
    finished: dict[str, RunDirectory], new_run: NewRun, train_here: TrainHere
) -> RunDirectory:
    if "run" not in finished:
        finished["run"] = new_run(**OPTIONS)
        assert train_here(finished["run"]) == 0
    return finished["run"]


def die_before_step(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = Watch.on_step_begin

    def die(self: Watch, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == step:
            raise Killed
        original(self, args, state, control, **rest)

    monkeypatch.setattr(Watch, "on_step_begin", die)


def die_in_save(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    original = trainer.publish

    def die(folder: Path, place: Path) -> None:
        if place.name == name:
            (folder / "optimizer.pt").write_bytes(b"half")
            raise Killed
        original(folder, place)

    monkeypatch.setattr(trainer, "publish", die)


def test_killed_between_checkpoints_and_inside_a_save(
    uninterrupted: RunDirectory,
    new_run: NewRun,
    train_here: TrainHere,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the first checkpoint, in the first epoch, in the middle of a save, in the last."""
    run = new_run(**OPTIONS)
    deaths = [
        partial(die_before_step, step=1),
        partial(die_before_step, step=5),
        partial(die_in_save, name="checkpoint-9"),
        partial(die_before_step, step=13),
    ]
    for death in deaths:
        with monkeypatch.context() as patch:
            death(patch)
            with pytest.raises(Killed):
                train_here(run)
        assert curve(run) == curve(uninterrupted)[: len(curve(run))]
        assert not run.adapter.exists()
    assert train_here(run) == 0
    assert_same(run, uninterrupted)


def test_stopped_after_every_step(
    uninterrupted: RunDirectory, new_run: NewRun, train_here: TrainHere
) -> None:
    run = new_run(**{**OPTIONS, "training": {"epochs": 3, "max_steps": 4}})
    reference = new_run(**{**OPTIONS, "training": {"epochs": 3, "max_steps": 4}})
    assert train_here(reference) == 0
    for _ in range(2):
        (run.control / "stop").touch()
        assert train_here(run) == 0
        assert not run.adapter.exists()
    (run.control / "stop").unlink()
    assert train_here(run) == 0
    assert_same(run, reference)


def test_resumed_on_the_rows_it_began_with(new_run: NewRun, train_here: TrainHere) -> None:
    run = new_run(training={"max_steps": 3})
    (run.control / "stop").touch()
    assert train_here(run) == 0
    encoded = (run.data / "train.jsonl").read_bytes()
    run.recipe.write_text(run.recipe.read_text().replace("rows.jsonl", "gone.jsonl"))
    (run.control / "stop").unlink()
    assert train_here(run) == 0
    assert (run.data / "train.jsonl").read_bytes() == encoded
    assert [step for step, _ in curve(run)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        (("rank: 4", "rank: 8"), "method.rank: 4 → 8"),
        (("all-linear", "attention"), "method.target_modules: all-linear → attention"),
        (("seed: 42", "seed: 43"), "training.seed: 42 → 43"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(
    stopped: RunDirectory, train_here: TrainHere, change: tuple[str, str], difference: str
) -> None:
    recipe = stopped.recipe.read_text()
    stopped.recipe.write_text(recipe.replace(*change))
    try:
        assert train_here(stopped) == 1
    finally:
        stopped.recipe.write_text(recipe)
    error = [event for event in EventReader(stopped.events).read() if event["kind"] == "error"]
    assert difference in error[-1]["message"]
    assert "checkpoint-1" in error[-1]["message"]
    assert not stopped.adapter.exists()


@pytest.fixture
def stopped(
    finished: dict[str, RunDirectory], new_run: NewRun, train_here: TrainHere
) -> RunDirectory:
    if "stopped" not in finished:
        run = finished["stopped"] = new_run(**OPTIONS)
        (run.control / "stop").touch()
        assert train_here(run) == 0
    return finished["stopped"]


def test_micro_batches_do_not_change_the_order(new_run: NewRun, train_here: TrainHere) -> None:
    whole = new_run(training={"micro_batch": 8, "gradient_accumulation": 1, "max_steps": 6})
    halved = new_run(training={"micro_batch": 2, "gradient_accumulation": 4, "max_steps": 6})
    assert train_here(whole) == 0
    assert train_here(halved) == 0
    for (step, loss), (same, other) in zip(curve(whole), curve(halved), strict=True):
        assert step == same
        assert loss == pytest.approx(other, rel=0.02)
