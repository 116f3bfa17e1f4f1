"""Run folders and readings for the tests of the screens: real files, a fixed machine."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from core.hardware.machine import Gpu, Machine
from core.recipe import Recipe
from core.runs.directory import RunDirectory, create_run
from core.runs.state import RunState, write_state
from tui.app import TuneDeck
from tui.deck import Deck

GIB = 1024**3
NOW = 1_780_000_000.0
HOSTILE = "\x1b[31m[bold]red[/bold]\x1b[0m \u202eevil 日本語 \x07"
SIZES = [(80, 24), (120, 36), (200, 50)]

MakeRun = Callable[..., RunDirectory]
Open = Callable[..., Any]


def machine_with(gpus: int = 0) -> Machine:
    """A machine that never changes."""
    return Machine(
        taken=NOW,
        gpus=tuple(
            Gpu(
                index=index,
                uuid=f"GPU-{index}",
                name="NVIDIA GeForce RTX 4090",
                total=24 * GIB,
                used=2 * GIB,
                free=22 * GIB,
                utilisation=37,
                temperature=54,
                power=212.0,
                power_limit=450.0,
                capability=(8, 9),
            )
            for index in range(gpus)
        ),
        gpu_note="" if gpus else "no NVIDIA GPU",
        driver="580.0" if gpus else None,
        cpu_name="Example CPU 9000",
        cores=8,
        cpu_percent=25.0,
        ram_total=32 * GIB,
        ram_available=24 * GIB,
        disk_total=512 * GIB,
        disk_free=300 * GIB,
    )


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how many GPUs the app finds; none at first."""

    def set_gpus(gpus: int) -> None:
        reading = machine_with(gpus)
        monkeypatch.setattr("core.hardware.readings.read_machine", lambda: reading)

    set_gpus(0)
    return set_gpus


@pytest.fixture
def make_run(tunedeck_home: Path) -> Iterator[MakeRun]:
    """Makes run folders as a worker would; `lock` makes one that lives."""
    locks = []

    def make(name: str, *, model: str = "org/model", lock: bool = False, **state: Any) -> Any:
        tree = {"name": name, "model": model, "data": "rows.jsonl"}
        run = create_run(Recipe.model_validate(tree))
        write_state(run, RunState(created=time.time() - 3600, **state))
        if lock:
            locks.append(_held_elsewhere(run.lock))
        return run

    yield make
    for process in locks:
        os.kill(process, 9)
        os.waitpid(process, 0)


def _held_elsewhere(path: Path) -> int:
    """A process that holds the lock: a lock of one's own does not count."""
    path.touch()
    process = os.fork()
    if process == 0:
        descriptor = os.open(path, os.O_RDWR)
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        while True:
            time.sleep(60)
    from core.runs.lock import is_locked

    while not is_locked(path):
        time.sleep(0.01)
    return process


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same terminal wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def opened(tunedeck_home: Path, machine: Callable[[int], None]) -> Open:
    """Opens the app in a terminal of a size: `async with opened((80, 24)) as pilot`."""

    @asynccontextmanager
    async def open_app(
        size: tuple[int, int] = (80, 24), deck: Deck | None = None, start: str = "home"
    ) -> AsyncIterator[Pilot[None]]:
        async with TuneDeck(deck, start).run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            yield pilot

    return open_app


def shown(pilot: Pilot[None]) -> str:
    """The screen as text."""
    height = pilot.app.size.height
    lines = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in lines[:height])


async def until(pilot: Pilot[None], reached: Callable[[], object], seconds: float = 20) -> None:
    """Let the app work until something holds; fail with the screen when it does not come."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"never came; the screen shows:\n{shown(pilot)}"
        await pilot.pause(0.02)


async def sees(pilot: Pilot[None], text: str, seconds: float = 20) -> None:
    """Wait for a text on the screen."""
    await until(pilot, lambda: text in shown(pilot), seconds)
