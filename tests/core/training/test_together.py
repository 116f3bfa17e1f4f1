"""Two processes that train one model (gloo, on the CPU): the same training as one process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from safetensors.torch import load_file

from core.recipe import load_recipe
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.runs.history import RunHistory
from core.runs.state import stored_state
from core.training import launch
from core.training.checkpoints import checkpoints, is_whole
from core.training.launch import train_together
from core.training.reporter import Reporter
from core.training.together import Crew

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
TOGETHER = {"gpu": "cpu", "gpus": 2}
SECONDS = 120.0


def told(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


def curves(run: RunDirectory) -> tuple[dict[int, float], dict[int, float]]:
    """Loss and held-out loss by step; one that is stopped at once does not measure the base."""
    history = RunHistory()
    history.update(EventReader(run.events).read())
    return dict(history.loss), {step: loss for step, loss in history.eval_loss if step}


def tokens(run: RunDirectory) -> dict[int, int]:
    return {event["step"]: event["tokens"] for event in told(run, "log")}


def assert_same(run: RunDirectory, other: RunDirectory) -> None:
    for ours, theirs in zip(curves(run), curves(other), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    name = "adapter_model.safetensors"
    mine, yours = load_file(run.adapter / name), load_file(other.adapter / name)
    assert mine.keys() == yours.keys()
    assert all(bool((mine[key] - yours[key]).abs().max() < 1e-3) for key in mine)


@pytest.fixture
def options(tiny_model: Path) -> dict[str, Any]:
    """In fp32, so that only the order of additions differs. Epochs end with an odd batch."""
    return {
        "model": {"id": str(tiny_model), "precision": "fp32"},
        "method": {"rank": 4},
        "training": {"epochs": 1, "eval_steps": 4, "save_steps": 3, "micro_batch": 4},
    }


@pytest.fixture(scope="session")
def trained() -> dict[str, RunDirectory]:
    return {}


@pytest.fixture
def alone(
    trained: dict[str, RunDirectory],
    new_run: NewRun,
    options: dict[str, Any],
    train_here: TrainHere,
) -> RunDirectory:
    """One process, which all the others are compared with."""
    if "alone" not in trained:
        trained["alone"] = new_run(**options)
        assert train_here(trained["alone"]) == 0
    return trained["alone"]


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The next ranks misbehave so (see odd_rank)."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setattr(launch, "RANK_MODULE", "tests.core.training.odd_rank")

    def set_odd(**ways: Any) -> None:
        monkeypatch.setenv("TUNEDECK_TEST_RANK", json.dumps(ways))

    set_odd()
    return set_odd


def waiting(run: RunDirectory) -> dict[int, int]:
    """Rank and pid of the two that wait."""
    deadline = time.monotonic() + SECONDS
    while len(found := list(run.path.glob("waiting-*"))) < 2:
        assert time.monotonic() < deadline, run.log.read_text() if run.log.exists() else ""
        time.sleep(0.05)
    return {int(path.name[-1]): int(path.read_text()) for path in found}


def meanwhile(task: Callable[[], None]) -> Thread:
    thread = Thread(target=task, daemon=True)
    thread.start()
    return thread


def with_hardware(run: RunDirectory, **hardware: Any) -> None:
    recipe = load_recipe(run.recipe)
    changes = [f"hardware.{key}={json.dumps(value)}" for key, value in hardware.items()]
    run.recipe.write_text(recipe.with_changes(changes).to_yaml())


def test_the_loss_is_that_of_one_process_even_when_memory_runs_out(
    alone: RunDirectory,
    new_run: NewRun,
    options: dict[str, Any],
    odd: Callable[..., None],
    train_here: TrainHere,
) -> None:
    """From the fifth step on the second process cannot take four rows at a time."""
    run = new_run(**options, hardware=TOGETHER)
    odd(greedy=[1, 5, 2])
    assert train_here(run) == 0
    assert_same(run, alone)
    [warning] = told(run, "warning")
    assert warning["code"] == "out-of-memory-recovered"
    assert "Process 2 of 2" in warning["message"]
    training = load_recipe(run.recipe).training
    assert (training.micro_batch, training.gradient_accumulation) == (2, 4)
    tokens = [
        {event["step"]: event["tokens"] for event in told(each, "log")} for each in (run, alone)
    ]
    assert tokens[0] == tokens[1]
    assert [path.name for path in checkpoints(run)] == ["checkpoint-3", "checkpoint-6"]


def test_killed_then_stopped_then_ended_by_one_process(
    alone: RunDirectory,
    new_run: NewRun,
    options: dict[str, Any],
    odd: Callable[..., None],
    train_here: TrainHere,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run = new_run(**options, hardware=TOGETHER)
    odd(wait=5)

    def kill() -> None:
        os.kill(waiting(run)[1], signal.SIGKILL)
        (run.path / "go").touch()

    killer = meanwhile(kill)
    with capfd.disabled(), run.log.open("ab") as log:
        _output_to(log.fileno(), lambda: train_here(run) == 1)
    killer.join()
    [error] = told(run, "error")
    assert "Process 2 of 2" in error["message"], error
    assert "SIGKILL" in error["message"]
    assert is_whole(checkpoints(run)[-1])

    for path in run.path.glob("waiting-*"):
        path.unlink()
    (run.path / "go").unlink()

    def stop() -> None:
        waiting(run)
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + SECONDS
        while not (run.control / "stop").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        (run.path / "go").touch()

    stopper = meanwhile(stop)
    assert train_here(run) == 0
    stopper.join()
    assert stored_state(run).phase == "stopping"
    assert stored_state(run).step == 5
    assert checkpoints(run)[-1].name == "checkpoint-5"
    assert not run.adapter.exists()

    (run.control / "stop").unlink()
    with_hardware(run, gpus=1)
    assert train_here(run) == 0
    assert_same(run, alone)


def _output_to(descriptor: int, task: Callable[[], bool]) -> None:
    """What the task and its children print goes to the descriptor, as the keeper has it."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        for number, _ in kept:
            os.dup2(descriptor, number)
        assert task()
    finally:
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


def test_each_holds_a_part_of_the_model(
    alone: RunDirectory,
    new_run: NewRun,
    options: dict[str, Any],
    odd: Callable[..., None],
    train_here: TrainHere,
) -> None:
    """FSDP2, stopped and resumed; and what one process makes of such a checkpoint."""
    run = new_run(**options, hardware={**TOGETHER, "sharding": "fsdp"})
    shutil.copytree(alone.data, run.data)
    odd(cpu_parts=True)

    def go_on() -> None:
        reporter = Reporter(run)
        assert train_together(run, load_recipe(run.recipe), Crew(2), None, reporter) is None

    (run.control / "stop").touch()
    go_on()
    (run.control / "stop").unlink()
    [saved] = checkpoints(run)
    assert saved.name == "checkpoint-1"
    assert (saved / "pytorch_model_fsdp.bin").is_file()

    with_hardware(run, gpus=1)
    assert train_here(run) == 1
    [error] = told(run, "error")
    assert "hardware.sharding: fsdp → ddp" in error["message"]

    with_hardware(run, gpus=2)
    go_on()
    assert_same(run, alone)
