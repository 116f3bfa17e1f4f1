"""Killed at random moments, or asked to end: real processes, and nothing is lost."""

from __future__ import annotations

import multiprocessing
import random
import signal
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
from tests.core.training.mortal import live

KILLS = 10
LONGEST_LIFE = 80  # moments; a step has about twenty
SECONDS = 600.0


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Children that have torch imported when they begin; importing is not what is tested."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.training.session"])
    return context


def start(processes: ForkServerContext, run: RunDirectory, moment: int = 0) -> ForkServerProcess:
    process = processes.Process(target=live, args=(str(run.path), moment))
    process.start()
    return process


def curve(run: RunDirectory) -> list[tuple[int, float]]:
    history = RunHistory()
    history.update(EventReader(run.events).read())
    return list(history.loss)


def test_killed_ten_times(
    processes: ForkServerContext, new_run: Callable[..., RunDirectory]
) -> None:
    """Ten lives that end with SIGKILL at random moments of theirs, some of them inside a save."""
    options = {
        "method": {"rank": 4, "dropout": 0.1},
        "training": {"epochs": 5, "save_steps": 1, "eval_steps": 7, "early_stopping": True},
    }
    undisturbed, run = new_run(**options), new_run(**options)
    reference = start(processes, undisturbed)
    generator = random.Random(5)
    for _ in range(KILLS):
        process = start(processes, run, generator.randint(1, LONGEST_LIFE))
        process.join(SECONDS)
        assert process.exitcode == -signal.SIGKILL, curve(run)[-1:]
        assert not run.adapter.exists()
    last = start(processes, run)
    for process in (last, reference):
        process.join(SECONDS)
        assert process.exitcode == 0
    deaths = (run.path / "deaths").read_text().splitlines()
    assert len(deaths) == KILLS
    assert len([death for death in deaths if death.startswith("save: ")]) >= 3, deaths
    assert len({*deaths}) >= 5, deaths
    assert curve(run) == curve(undisturbed)
    assert_same_weights(run, undisturbed)


def assert_same_weights(run: RunDirectory, other: RunDirectory) -> None:
    """Bit for bit."""
    ours, theirs = (load_file(each.adapter / "adapter_model.safetensors") for each in (run, other))
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
    deadline = time.monotonic() + SECONDS
    while stored_state(run).step < 3 and keeper.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    keeper.terminate()
    assert keeper.wait(SECONDS) == 0
    state = stored_state(run)
    assert (state.phase, state.exit) == ("stopped", None)
    [saved] = checkpoints(run)
    assert is_whole(saved)
    told = EventReader(run.events).read()
    asked = next(at for at, event in enumerate(told) if event.get("phase") == "stopping")
    [last] = [event for event in told[asked:] if event["kind"] == "log"]  # the step it was in
    assert saved.name == f"checkpoint-{last['step']}"
    assert state.step == last["step"]
