"""Killed at random moments, or asked to end: real processes, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pytest
from safetensors.torch import load_file

from core.children import command
from core.runs.directory import RunDirectory
from core.runs.events import EventReader
from core.runs.history import RunHistory
from core.runs.state import stored_state
from core.training.checkpoints import checkpoints, is_whole
from core.training.worker import main

KILLS = 10
SECONDS = 240.0


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Children that have torch imported when they begin; importing is not what is tested."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.training.session"])
    return context


def start(processes: ForkServerContext, run: RunDirectory) -> ForkServerProcess:
    process = processes.Process(target=main, args=([str(run.path)],))
    process.start()
    return process


def wait_till_training(run: RunDirectory, process: ForkServerProcess, already: int) -> None:
    while process.is_alive():
        begun = [e for e in EventReader(run.events).read() if e.get("stage") == "training"]
        if len(begun) > already:
            return
        time.sleep(0.005)


def curve(run: RunDirectory) -> list[tuple[int, float]]:
    history = RunHistory()
    history.update(EventReader(run.events).read())
    return list(history.loss)


def test_killed_ten_times(
    processes: ForkServerContext, new_run: Callable[..., RunDirectory]
) -> None:
    options = {
        "method": {"rank": 4, "dropout": 0.1},
        "training": {"epochs": 5, "save_steps": 1, "eval_steps": 7, "early_stopping": True},
    }
    undisturbed, run = new_run(**options), new_run(**options)
    reference = start(processes, undisturbed)
    generator = random.Random(5)
    kills, lives, deadline = 0, 0, time.monotonic() + SECONDS
    while not run.adapter.exists():
        assert time.monotonic() < deadline, f"after {kills} kills at {curve(run)[-1:]}"
        process = start(processes, run)
        if kills < KILLS:
            wait_till_training(run, process, lives)
            lives += 1
            process.join(generator.uniform(0.05, 0.4))
        else:
            process.join(SECONDS)
        if process.is_alive():
            process.kill()
            kills += 1
        process.join()
    reference.join()
    assert kills >= 5
    assert curve(run) == curve(undisturbed)
    ours, theirs = (
        load_file(each.adapter / "adapter_model.safetensors") for each in (run, undisturbed)
    )
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[key] == theirs[key]).all()) for key in ours)


def test_sigterm_in_the_middle_of_an_epoch(
    new_run: Callable[..., RunDirectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real keeper and a real worker: a checkpoint of the step, state `stopped`, and exit 0."""
    run = new_run(
        training={"epochs": 400, "learning_rate": 1e-4, "save_steps": 5000, "eval_steps": 5000}
    )
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    with run.log.open("ab") as log:
        keeper = subprocess.Popen(
            command("core.runs.keeper", str(run.path)), stdout=log, stderr=log
        )
    deadline = time.monotonic() + 90
    while stored_state(run).step < 3 and keeper.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    keeper.terminate()
    asked = time.time()
    assert keeper.wait(20) == 0
    state = stored_state(run)
    assert (state.phase, state.exit) == ("stopped", None)
    [saved] = checkpoints(run)
    assert is_whole(saved)
    logs = [event for event in EventReader(run.events).read() if event["kind"] == "log"]
    assert len([event for event in logs if event["t"] > asked]) <= 2
    last = logs[-1]
    assert saved.name == f"checkpoint-{last['step']}"
