"""Runs outlive what started them, and die honestly: real training of a tiny model, killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.runs.directory import RunDirectory
from core.runs.events import EventReader
from core.runs.history import RunHistory
from core.runs.state import RunState, current_state
from core.training.checkpoints import is_whole
from tests.e2e.conftest import Run, one_object
from tests.e2e.terminal import Terminal

Recipes = Callable[..., Path]
ENDLESS = 1_000_000


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path, tiny_rows: Path) -> Recipes:
    """Writes a recipe for the tiny model that trains for so many steps; `ENDLESS` for a run that
    is still at work however slowly the commands start that meet it."""

    def write(steps: int, name: str = "tiny", **sections: Any) -> Path:
        tree = {
            "name": name,
            "model": str(tiny_model),
            "data": {"train": [str(tiny_rows)], "max_length": 128},
            "method": {"rank": 4},
            "training": {
                "max_steps": steps,
                "epochs": 100_000,
                "early_stopping": False,
                "micro_batch": 4,
                "gradient_accumulation": 1,
                "eval_steps": 50,
                "save_steps": 5,
                "learning_rate": 1e-3,
            },
            "evaluation": {"rows": 4, "max_new_tokens": 4},
            **sections,
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(tree))
        return path

    return write


def launch(tunedeck: Run, recipe: Path) -> RunDirectory:
    done = tunedeck("train", str(recipe), "--detach", "--json")
    assert done.returncode == 0, done.stderr
    return RunDirectory(Path(one_object(done)["directory"]))


def stop(tunedeck: Run, run: RunDirectory) -> None:
    """Ask it to stop, and see that this is what it did."""
    done = tunedeck("stop", run.id)
    state = current_state(run)
    assert done.returncode == 0, f"{done.stderr}{state}"
    assert state.phase == "stopped", f"{state}\n{run.log.read_text()[-2000:]}"


def history(run: RunDirectory) -> RunHistory:
    folded = RunHistory()
    folded.update(EventReader(run.events).read())
    return folded


def wait_until(run: RunDirectory, reached: Callable[[RunState], bool], seconds: float) -> RunState:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = current_state(run)
        if reached(state):
            return state
        time.sleep(0.05)
    raise AssertionError(f"not reached: {current_state(run)}\n{run.log.read_text()[-2000:]}")


def at_step(step: int) -> Callable[[RunState], bool]:
    return lambda state: state.step >= step or not state.alive


def over(state: RunState) -> bool:
    return not state.alive


def test_the_run_outlives_the_apps_that_watch_it(
    terminal: Callable[..., Terminal], tunedeck: Run, recipe: Recipes
) -> None:
    """Three windows on one run: one is killed, one loses its connection, one is closed."""
    run = launch(tunedeck, recipe(ENDLESS))
    windows = [terminal("attach", run.id) for _ in range(3)]
    for window in windows:
        window.wait_for("loss", seconds=180)
    ends = (lambda: windows[0].kill(signal.SIGKILL), lambda: windows[1].kill(signal.SIGHUP),
            windows[2].close)  # fmt: skip
    for end in ends:
        before = wait_until(run, at_step(3), 180)
        end()
        after = wait_until(run, at_step(before.step + 5), 180)
        assert after.alive
    stop(tunedeck, run)


def test_stopped_and_resumed_killed_and_resumed(
    terminal: Callable[..., Terminal], tunedeck: Run, recipe: Recipes
) -> None:
    """A stop leaves a checkpoint; a killed worker is reported to whoever watches."""
    run = launch(tunedeck, recipe(ENDLESS))
    wait_until(run, at_step(3), 180)
    stop(tunedeck, run)
    step = current_state(run).step
    assert is_whole(run.checkpoints / f"checkpoint-{step}")

    resume(tunedeck, run)
    window = terminal("attach", run.id)
    window.wait_for("loss", seconds=180)
    state = wait_until(run, at_step(step + 12), 180)
    steps = [at for at, _ in history(run).loss]
    assert steps == list(range(1, steps[-1] + 1))
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    dead = wait_until(run, over, 30)
    assert dead.phase == "failed"
    assert dead.exit is not None
    assert "kill" in dead.exit.message.lower()
    window.wait_for("failed", "Failed", seconds=30)
    listed = json.loads(tunedeck("runs", "--json").stdout)["runs"]
    assert [entry["state"] for entry in listed] == ["failed"]

    resume(tunedeck, run)
    wait_until(run, at_step(step + 15), 180)
    steps = [at for at, _ in history(run).loss]
    assert steps == list(range(1, steps[-1] + 1))
    stop(tunedeck, run)


def resume(tunedeck: Run, run: RunDirectory) -> None:
    done = tunedeck("resume", run.id, "--detach")
    assert done.returncode == 0, done.stderr


def test_two_runs_at_once_do_not_disturb_each_other(tunedeck: Run, recipe: Recipes) -> None:
    """And a finished one tells its whole history."""
    first = launch(tunedeck, recipe(30, "first", evaluation={"enabled": False}, merge=False))
    done = tunedeck("train", str(recipe(30, "second")), "--json")
    assert done.returncode == 0, done.stderr
    report = one_object(done)
    assert report["state"] == "finished"
    assert wait_until(first, over, 300).phase == "finished"
    one, two = (
        list(history(first).loss),
        list(history(RunDirectory(Path(report["directory"]))).loss),
    )
    assert len(one) == 30
    assert one == two
    attached = tunedeck("attach", report["id"])
    assert attached.returncode == 0
    assert "step 30/30" in attached.stderr
    assert {"base", "tuned"} <= set(report["results"])
