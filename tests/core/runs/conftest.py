"""Runs in a home of their own, and keepers whose stages are light."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.recipe import Recipe, parse_recipe
from core.runs import supervisor
from core.runs.directory import RunDirectory
from core.runs.lock import holder
from core.runs.state import RunState, current_state

STAGES = "tests.core.runs.stages."
ROOT = Path(__file__).parents[3]


@pytest.fixture
def recipe() -> Recipe:
    return parse_recipe({"name": "test", "model": "m", "data": "d"}, "test")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty TUNEDECK_HOME; whatever still runs in it at the end is killed."""
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    path = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{path}")
    yield tmp_path
    for lock in tmp_path.glob("runs/*/lock"):
        if (keeper := holder(lock)) is not None:
            os.killpg(keeper, signal.SIGKILL)


@pytest.fixture
def stages(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Choose what the keepers that are launched from now on run."""

    def choose(*names: str) -> None:
        monkeypatch.setattr(
            supervisor,
            "command",
            lambda module, *arguments: command(module, *arguments, *[STAGES + n for n in names]),
        )

    command = supervisor.command
    return choose


def wait_for(
    run: RunDirectory, condition: Callable[[RunState], bool], seconds: float = 60.0
) -> RunState:
    """The state as soon as it meets the condition."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = current_state(run)
        if condition(state):
            return state
        time.sleep(0.02)
    raise AssertionError(f"{state} after {seconds} s; the log: {run.log.read_text()}")
