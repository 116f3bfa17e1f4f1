"""The keeper sees a run through, and has the last word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.children import command
from core.recipe import Recipe
from core.runs import keeper as keeper_module
from core.runs.directory import RunDirectory, create_run
from core.runs.events import Event, EventReader
from core.runs.keeper import Keeper
from core.runs.lock import LOCKED, RunLock, holder, is_locked
from core.runs.state import RunState, stored_state, write_state
from core.runs.supervisor import launch, request
from core.training.checkpoints import publish
from tests.core.runs.conftest import STAGES, wait_for

Stages = Callable[..., None]


def training(state: RunState) -> bool:
    return state.stage == "training"


def over(state: RunState) -> bool:
    return not state.alive


def events(run: object) -> list[Event]:
    return EventReader(run.events).read()  # type: ignore[attr-defined]


def test_stages_one_after_another_to_the_end(stages: Stages, recipe: Recipe) -> None:
    stages("passes", "passes")
    run = launch(recipe)
    state = wait_for(run, over)
    assert (state.phase, state.pid, state.exit) == ("finished", None, None)
    assert (run.path / "passed").exists()
    last = events(run)[-1]
    assert (last["kind"], last["phase"], last["exit_code"]) == ("done", "finished", 0)


def test_a_crash_is_explained(stages: Stages, recipe: Recipe) -> None:
    stages("crashes", "passes")
    run = launch(recipe)
    state = wait_for(run, over)
    assert state.phase == "failed"
    assert state.exit is not None
    assert state.exit.code == "gpu-out-of-memory"
    assert "micro_batch" in state.exit.remedy
    assert not (run.path / "passed").exists()
    assert [event["kind"] for event in events(run)[-2:]] == ["error", "done"]


def test_a_killed_stage_is_reported(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    run = launch(recipe)
    state = wait_for(run, training)
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    state = wait_for(run, over)
    assert state.phase == "failed"
    assert state.exit is not None
    assert "SIGKILL" in state.exit.message
    assert state.step == 7


def test_a_killed_keeper_takes_its_stage_along(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    run = launch(recipe)
    stage = wait_for(run, training).pid
    keeper = holder(run.lock)
    assert stage is not None
    assert keeper is not None
    assert stage != keeper
    os.kill(keeper, signal.SIGKILL)
    state = wait_for(run, over)
    assert state.phase == "failed"
    assert state.exit is not None
    assert state.exit.code == "killed"
    deadline = time.monotonic() + 20
    while alive(stage) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(stage)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_hanging_up_changes_nothing(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    run = launch(recipe)
    stage = wait_for(run, training).pid
    keeper = holder(run.lock)
    assert stage is not None
    assert keeper is not None
    assert os.getsid(stage) == os.getsid(keeper) == keeper != os.getsid(0)
    os.kill(keeper, signal.SIGHUP)
    os.kill(stage, signal.SIGHUP)
    time.sleep(0.3)
    assert is_locked(run.lock)
    assert alive(stage)


@pytest.mark.parametrize("how", ["intent", "SIGTERM", "SIGINT"])
def test_a_stop_lets_the_training_end_by_itself(stages: Stages, recipe: Recipe, how: str) -> None:
    stages("sleeps", "passes")
    run = launch(recipe)
    wait_for(run, training)
    keeper = holder(run.lock)
    assert keeper is not None
    if how == "intent":
        request(run, "stop")
    else:
        os.kill(keeper, signal.Signals[how])
    state = wait_for(run, over)
    assert (state.phase, state.exit) == ("stopped", None)
    assert not (run.path / "passed").exists()
    assert events(run)[-1]["phase"] == "stopped"


def start_keeper(run: RunDirectory, stage: str, odd: str) -> subprocess.Popen[bytes]:
    """A keeper of our own, in which `odd` has been executed first."""
    code = "import sys; from core.runs import keeper\n{}\nsys.exit(keeper.main(sys.argv[1:]))"
    words = ["-c", code.format(odd), str(run.path), f"{STAGES}{stage}"]
    return subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE)


def test_a_stage_that_does_not_train_is_not_waited_for(
    home: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLEEPS_AS", "downloading")
    run = create_run(recipe)
    keeper = start_keeper(run, "sleeps", "keeper.STOP_PATIENCE_SECONDS = 0.5")
    wait_for(run, lambda state: state.stage == "downloading")
    request(run, "stop")
    assert wait_for(run, over, 60.0).phase == "stopped"
    assert keeper.wait() == 0


def test_the_machine_is_sampled(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    run = launch(recipe)
    deadline = time.monotonic() + 30
    lines: list[str] = []
    while len(lines) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
        lines = run.gpu.read_text().splitlines() if run.gpu.exists() else []
    samples = [json.loads(line) for line in lines]
    assert samples[1]["t"] - samples[0]["t"] > 0.5  # and more where the machine is busy
    assert samples[0]["ram_available"] > 0


def test_a_second_keeper_is_refused(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    run = launch(recipe)
    before = wait_for(run, training)
    second = subprocess.run(
        command("core.runs.keeper", str(run.path)), capture_output=True, text=True, check=False
    )
    assert second.returncode == LOCKED
    assert "already" in second.stderr
    assert "Traceback" not in second.stderr
    assert stored_state(run).pid == before.pid


def test_a_run_is_over_when_it_says_so(home: Path, recipe: Recipe) -> None:
    """However long its keeper takes to go: on a busy machine that is seconds, and a resume that
    came in between was told that the run is still at work."""
    run = create_run(recipe)
    keeper = start_keeper(run, "passes", "import atexit; atexit.register(sys.stdin.read)")
    wait_for(run, over)
    lock = RunLock(run.lock)
    assert lock.acquire(patience=10.0)
    lock.release()
    assert keeper.poll() is None
    keeper.communicate()
    assert keeper.returncode == 0


def test_a_full_disk_is_one_sentence(
    home: object, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process, so that writing can be made to fail."""
    run = create_run(recipe)

    def full(*arguments: object, **fields: object) -> None:
        raise OSError(28, "No space left on device", str(run.path))

    monkeypatch.setattr(keeper_module, "write_state", full)
    monkeypatch.setattr(keeper_module.EventWriter, "write", full)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    assert Keeper(run, ("tests.core.runs.stages.passes",)).keep() == 0
    for number, handler in handlers.items():
        signal.signal(number, handler)
    told = capfd.readouterr().err
    assert told.count("no space left") == 1
    assert "Traceback" not in told


def test_steps_after_the_checkpoint_are_not_claimed_by_a_resumed_run(
    stages: Stages, recipe: Recipe
) -> None:
    """Stopped before it trains again, its step must be one that a checkpoint exists of."""
    stages("passes")
    run = create_run(recipe)
    folder = run.checkpoints / ".saving"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"some")
    publish(folder, run.checkpoints / "checkpoint-10")
    write_state(run, RunState(phase="failed", step=12, total_steps=50))
    (run.control / "stop").touch()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    assert Keeper(run, ("tests.core.runs.stages.passes",)).keep() == 0
    for number, handler in handlers.items():
        signal.signal(number, handler)
    state = stored_state(run)
    assert (state.phase, state.step, state.total_steps) == ("stopped", 10, 50)
