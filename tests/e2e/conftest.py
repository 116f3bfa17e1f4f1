"""Terminals and command lines for the end-to-end tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from core.runs.lock import holder
from tests.e2e.terminal import ROOT, Terminal

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty TUNEDECK_HOME; whatever still runs in it at the end is killed."""
    yield tmp_path / "home"
    for lock in tmp_path.glob("home/runs/*/lock"):
        if (keeper := holder(lock)) is not None:
            os.killpg(keeper, signal.SIGKILL)


@pytest.fixture
def terminal(home: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals that are closed when the test is over."""
    opened: list[Terminal] = []

    def open_terminal(*words: str, columns: int = 120, rows: int = 36) -> Terminal:
        opened.append(Terminal.tunedeck(*words, home=home, columns=columns, rows=rows))
        return opened[-1]

    yield open_terminal
    for one in opened:
        one.close()


@pytest.fixture
def tunedeck(home: Path) -> Run:
    """Runs a `tunedeck` command without a terminal."""
    return partial(run_tunedeck, home)


def run_tunedeck(home: Path, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """A `tunedeck` command of this Python, its output captured."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "tui.cli", *words],
        env={**os.environ, "TUNEDECK_HOME": str(home), "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The demo, run once for all tests of its outcome, with all cores."""
    home = tmp_path_factory.mktemp("demo-home")
    threads = os.environ.pop("OMP_NUM_THREADS", None)
    try:
        done = run_tunedeck(home, "demo", "--headless", "--json", seconds=900)
    finally:
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
    assert done.returncode == 0, done.stderr
    return one_object(done)


def one_object(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The one JSON object that a command has to write to stdout with `--json`."""
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done.stdout + done.stderr
    tree: dict[str, Any] = json.loads(lines[0])
    return tree
