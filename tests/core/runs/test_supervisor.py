"""Launch, resume, stop and remove; what fails leaves nothing behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import UserError
from core.recipe import Recipe
from core.runs import supervisor
from core.runs.directory import RunDirectory
from core.runs.events import EventReader
from core.runs.lock import holder, is_locked
from core.runs.state import RunState, current_state
from core.runs.supervisor import launch, list_runs, remove, request, resume, stop
from tests.core.runs.conftest import wait_for

Stages = Callable[..., None]


def training(state: RunState) -> bool:
    return state.stage == "training"


def over(state: RunState) -> bool:
    return not state.alive


def test_two_at_once(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(launch, [recipe] * 4))
    assert len({run.id for run in runs}) == 4
    pids = {wait_for(run, training).pid for run in runs}
    assert len(pids) == 4
    stop(runs[0], now=True)
    assert current_state(runs[0]).phase == "stopped"
    assert all(is_locked(run.lock) for run in runs[1:])
    assert {summary.id for summary in list_runs()} == {run.id for run in runs}


def test_stop_now_ends_keeper_and_stage(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    run = launch(recipe)
    stage = wait_for(run, training).pid
    stop(run, now=True)
    state = current_state(run)
    assert (state.phase, state.pid, state.step) == ("stopped", None, 7)
    assert EventReader(run.events).read()[-1]["phase"] == "stopped"
    assert stage is not None
    assert soon_gone(stage)
    with pytest.raises(UserError, match="not running"):
        stop(run, now=True)


def test_no_zombie_is_left(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    run = launch(recipe)
    wait_for(run, training)
    keeper = holder(run.lock)
    assert keeper is not None
    stop(run, now=True)
    assert soon_gone(keeper)


def soon_gone(pid: int) -> bool:
    """Whether the process is gone within 20 s; a zombie is not."""
    for _ in range(1000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("end", ["failed", "stopped"])
def test_resumed_after(stages: Stages, recipe: Recipe, end: str) -> None:
    stages("sleeps")
    run = launch(recipe)
    stage = wait_for(run, training).pid
    assert stage is not None
    if end == "failed":
        os.kill(stage, signal.SIGKILL)
    else:
        request(run, "stop")
    assert wait_for(run, over).phase == end
    resume(run)
    state = current_state(run)
    assert state.alive
    assert state.exit is None
    wait_for(run, training)
    assert not list(run.control.iterdir())


def test_of_two_resumes_one_wins(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    run = launch(recipe)
    wait_for(run, training)
    stop(run, now=True)

    def attempt(_: int) -> str:
        try:
            resume(run)
        except UserError as error:
            return error.message
        return "resumed"

    with ThreadPoolExecutor(3) as pool:
        results = sorted(pool.map(attempt, range(3)))
    assert results.count("resumed") == 1
    assert all("is running" in result for result in results if result != "resumed")
    wait_for(run, training)


def test_a_finished_run_is_not_resumed(stages: Stages, recipe: Recipe) -> None:
    stages("passes")
    run = launch(recipe)
    wait_for(run, over)
    with pytest.raises(UserError, match="has finished"):
        resume(run)


def test_remove_spares_the_living(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    run = launch(recipe)
    wait_for(run, training)
    with pytest.raises(UserError, match="is running"):
        remove(run)
    assert run.recipe.is_file()
    stop(run, now=True)
    remove(run)
    assert not run.path.exists()
    with pytest.raises(UserError, match="gone already"):
        remove(run)


def test_a_request_to_a_dead_run_is_refused(home: Path, recipe: Recipe) -> None:
    run = supervisor.create_run(recipe)
    with pytest.raises(UserError, match="not running"):
        request(run, "stop")


def test_a_failed_launch_leaves_nothing(
    home: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "command", lambda *arguments: ["/nowhere/python"])
    with pytest.raises(UserError, match="Cannot start the worker"):
        launch(recipe)
    assert list((home / "runs").iterdir()) == []


def test_a_keeper_that_cannot_run_is_told_with_its_last_line(
    home: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "command", lambda *a: ["/bin/sh", "-c", "echo no good >&2"])
    with pytest.raises(UserError, match="no good"):
        launch(recipe)
    assert list((home / "runs").iterdir()) == []


def test_a_full_disk_leaves_nothing(
    home: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(run: RunDirectory, state: RunState) -> RunState:
        raise OSError(28, "No space left on device", str(run.state))

    monkeypatch.setattr(supervisor, "write_state", full)
    with pytest.raises(UserError, match="no space left"):
        launch(recipe)
    assert list((home / "runs").iterdir()) == []


def test_a_home_that_is_no_folder(
    home: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").touch()
    monkeypatch.setenv("TUNEDECK_HOME", str(home / "file"))
    with pytest.raises(UserError, match="Cannot make the run directory"):
        launch(recipe)
