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
SECONDS = 300.0


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


def with_hardware(run: RunDirectory, **hardware: Any) -> None:
    recipe = load_recipe(run.recipe)
    changes = [f"hardware.{key}={json.dumps(value)}" for key, value in hardware.items()]
    run.recipe.write_text(recipe.with_changes(changes).to_yaml())


def at_the_gate(run: RunDirectory, act: Callable[[dict[int, int]], None]) -> Thread:
    """Once both wait, `act` (by rank, their pids) and let them go."""

    def task() -> None:
        found = waiting(run)
        act(found)
        for path in run.path.glob("waiting-*"):
            path.unlink()
        (run.path / "go").touch()

    (run.path / "go").unlink(missing_ok=True)
    thread = Thread(target=task, daemon=True)
    thread.start()
    return thread


def ask_to_stop(run: RunDirectory) -> None:
    """SIGTERM to the launcher, which is this process; both must know before the step begins."""
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + SECONDS
    while not (run.control / "stop").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_killed_short_of_memory_stopped_and_ended_by_one_process(
    alone: RunDirectory,
    new_run: NewRun,
    options: dict[str, Any],
    odd: Callable[..., None],
    train_here: TrainHere,
) -> None:
    """And through all that the losses, and the adapter, of a process that had no such troubles."""
    run = new_run(**options, hardware=TOGETHER)
    odd(wait=5)
    killer = at_the_gate(run, lambda pids: os.kill(pids[1], signal.SIGKILL))
    with run.log.open("ab") as log:
        assert printing_to(log.fileno(), lambda: train_here(run)) == 1
    killer.join()
    [error] = told(run, "error")
    assert "Process 2 of 2" in error["message"], error
    assert "SIGKILL" in error["message"]
    assert [path.name for path in checkpoints(run)] == ["checkpoint-3"]
    assert is_whole(checkpoints(run)[-1])

    odd(greedy=[1, 5, 2], wait=6)  # from step 5 on process 2 cannot take four rows at a time
    stopper = at_the_gate(run, lambda pids: ask_to_stop(run))
    assert train_here(run) == 0
    stopper.join()
    [warning] = told(run, "warning")
    assert warning["code"] == "out-of-memory-recovered"
    assert "Process 2 of 2" in warning["message"]
    training = load_recipe(run.recipe).training
    assert (training.micro_batch, training.gradient_accumulation) == (2, 4)
    state = stored_state(run)
    assert (state.phase, state.step) == ("stopping", 6)
    assert checkpoints(run)[-1].name == "checkpoint-6"
    assert not run.adapter.exists()

    (run.control / "stop").unlink()
    with_hardware(run, gpus=1)
    assert train_here(run) == 0
    assert_same(run, alone)
    assert tokens(run) == tokens(alone)


def printing_to(descriptor: int, task: Callable[[], int]) -> int:
    """What the task and its children print goes to the descriptor, as the keeper has it."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        for number, _ in kept:
            os.dup2(descriptor, number)
        return task()
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
    options["training"]["gradient_checkpointing"] = True
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
