"""A night's watch: what the keeper notices in states and readings, and what it lets pass."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core.hardware.machine import Gpu, GpuProcess, Machine
from core.recipe import Recipe
from core.runs import keeper, vigil
from core.runs.directory import create_run
from core.runs.events import EventReader
from core.runs.keeper import Keeper
from core.runs.state import RunState
from core.runs.vigil import STEADY, Vigil, checkpoint_bytes

GIB = 1024**3


def machine(**changes: Any) -> Machine:
    plain = Machine(0.0, (), "", None, "CPU", 8, 10.0, 64 * GIB, 40 * GIB, 500 * GIB, 300 * GIB)
    return replace(plain, **changes)


def training(step: int, updated: float = 0.0) -> RunState:
    return RunState(phase="running", stage="training", step=step, updated=updated)


def codes(night: Vigil, state: RunState, now: float) -> list[str]:
    return [finding.code for finding in night.progress(state, now)]


def test_a_step_that_does_not_end() -> None:
    """A step takes two seconds; the eleventh hangs. It is told once, and again after another."""
    night = Vigil()
    clock = 100.0
    for step in range(10):
        assert codes(night, training(step), clock) == []
        clock += 2
    found = [(second, night.progress(training(9), clock + second)) for second in range(600)]
    told = [(second, findings[0]) for second, findings in found if findings]
    assert [second for second, _ in told] == [178]
    assert "after step 9" in told[0][1].message
    assert "2" in told[0][1].message
    assert "resume" in told[0][1].remedy
    assert codes(night, training(10), clock + 600) == []
    assert codes(night, training(10), clock + 600 + 3599) == ["stalled"]


def test_slow_steps_and_long_evaluations_are_no_stall() -> None:
    night = Vigil()
    for step in range(5):
        assert codes(night, training(step), 60.0 * (step + 1)) == []
    assert codes(night, training(4), 60.0 * 5 + 599) == []
    assert codes(night, training(4), 60.0 * 5 + 601) == ["stalled"]
    measuring = Vigil()
    for second in range(2000):
        assert codes(measuring, training(3, updated=float(second)), 1.0 + second) == []


def test_what_is_not_training_may_take_its_time() -> None:
    night = Vigil()
    for second in (1.0, 5000.0):
        assert codes(night, RunState(phase="running", stage="merging"), second) == []
        assert codes(night, replace(training(5), phase="stopping"), second) == []


def test_the_first_step_has_more_time() -> None:
    night = Vigil()
    assert codes(night, training(0), 1.0) == []
    assert codes(night, training(0), 800.0) == []
    assert codes(night, training(0), 902.0) == ["stalled"]


def readings(found: Machine, count: int, checkpoint: int = 0) -> list[str]:
    night = Vigil()
    return [f.code for _ in range(count) for f in night.machine(found, checkpoint)]


def test_memory_and_disk_that_run_out() -> None:
    assert readings(machine(), 100) == []
    assert readings(machine(ram_available=1 * GIB), 2) == []
    assert readings(machine(ram_available=1 * GIB), 100) == ["low-ram"]
    assert readings(machine(ram_total=2 * GIB, ram_available=GIB), 100) == []
    assert readings(machine(disk_free=GIB // 2), 100) == ["low-disk"]
    assert readings(machine(disk_free=30 * GIB), 100, checkpoint=20 * GIB) == ["low-disk"]
    assert readings(machine(disk_free=None), 100) == []


def test_a_gpu_that_is_slowed_down() -> None:
    hot = Gpu(0, temperature=91, throttled=("temperature",))
    assert readings(machine(gpus=(hot,)), STEADY - 1) == []
    assert readings(machine(gpus=(hot,)), STEADY) == ["gpu-throttled"]
    [finding] = _last(machine(gpus=(hot,)))
    assert "91 °C" in finding.message
    assert "temperature" in finding.message
    assert readings(machine(gpus=(replace(hot, throttled=("power limit",)),)), 100) == []
    busy = Gpu(1, processes=(GpuProcess(7, None, "python", ours=True),))
    assert readings(machine(gpus=(hot, busy)), 100) == []


def _last(found: Machine) -> list[vigil.Finding]:
    night = Vigil()
    return [finding for _ in range(STEADY) for finding in night.machine(found)]


def test_the_size_of_a_checkpoint(tmp_path: Path) -> None:
    assert checkpoint_bytes(tmp_path / "none") == 0
    for step, size in ((3, 10), (6, 20)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "weights").write_bytes(b"0" * size)
        os.utime(folder, (step, step))
    assert checkpoint_bytes(tmp_path) == 20


def test_the_keeper_tells_of_a_training_that_hangs(
    home: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real keeper over a real stage that does nothing; it ends once the warning is there."""
    run = create_run(recipe)
    monkeypatch.setattr(vigil, "FIRST_STEP_SECONDS", 0.05)
    monkeypatch.setattr(keeper, "SAMPLE_SECONDS", 0.05)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    watching = Keeper(run, ("tests.core.runs.stages.sleeps",))
    original = watching._tell

    def tell(kind: str, **fields: Any) -> None:
        original(kind, **fields)
        if kind == "warning":
            (run.control / "stop").touch()

    monkeypatch.setattr(watching, "_tell", tell)
    assert watching.keep() == 0
    for number, handler in handlers.items():
        signal.signal(number, handler)
    [warning] = [event for event in EventReader(run.events).read() if event["kind"] == "warning"]
    assert warning["code"] == "stalled"
    assert "after step 7" in warning["message"]
