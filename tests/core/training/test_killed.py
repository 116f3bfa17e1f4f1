"""SIGKILL at random moments, real processes: the end is bit for bit that of an undisturbed run."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext, ForkServerProcess

import pytest
from safetensors.torch import load_file

from core.runs.directory import RunDirectory
from core.runs.events import EventReader
from core.runs.history import RunHistory
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
