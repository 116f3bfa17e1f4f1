"""The small random models that are timed: the trainer's own steps, told as measurements."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from core import children
from core.errors import UserError
from core.memory.measured import kept
from core.planning import calibrating
from core.planning.calibrating import Failed, calibrate
from core.planning.calibration import Measurement, kept_measurements, store
from core.training import calibrate as calibrate_here
from core.training import measured
from core.training.calibrate import Point, grid, measure
from core.units import MIB

TINY = Point("lora", hidden=64, layers=1, vocabulary=128, rows=2, length=16)


@pytest.fixture(scope="module")
def point() -> dict[str, Any]:
    """One that was really measured."""
    return measure(TINY)


def test_a_point_is_a_measurement_of_this_device(point: dict[str, Any]) -> None:
    from core.models.catalogue import ModelShape

    shape = ModelShape(**point["shape"])
    one = Measurement(source="calibrate-1", **{**point, "shape": shape})
    assert one.tokens_per_s > 0
    assert 0 < one.factor < 1e6
    assert shape.hidden == TINY.hidden
    assert (one.method, one.micro_batch, one.tokens_per_row) == ("lora", 2, 16.0)


def test_on_a_gpu_what_a_step_needed_is_kept_for_the_predictions(
    tunedeck_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a double for the card's readings; on a CPU nothing is kept."""
    recipe = calibrate_here._recipe(TINY, tmp_path)
    model, _ = calibrate_here._made(TINY, recipe, tmp_path)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    steps: list[int] = []
    real = calibrate_here._step

    def seen(*arguments: Any, labelled: int) -> None:
        steps.append(labelled)
        real(*arguments, labelled=labelled)

    monkeypatch.setattr(calibrate_here, "_step", seen)
    calibrate_here.keep_peaks(model, optimizer, TINY, recipe, tmp_path)
    assert (steps, kept()) == ([], [])

    readings = {"max_memory_allocated": 30 * MIB, "max_memory_reserved": 40 * MIB}
    for name, value in readings.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    forgotten: list[str] = []
    for name in ("empty_cache", "reset_peak_memory_stats", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: forgotten.append(name))
    peaks = {"ram_peak": 0, "vram_peak": 900 * MIB, "vram_reserved": 40 * MIB}
    monkeypatch.setattr(measured, "memory_peaks", lambda: peaks)
    monkeypatch.setattr(measured, "device_name", lambda: "RTX 4090")
    calibrate_here.keep_peaks(model, optimizer, TINY, recipe, tmp_path)
    assert steps == [TINY.length], "every token counts, as the predictions have it"
    assert "reset_peak_memory_stats" in forgotten
    (one,) = kept()
    assert (one.device, one.allocated, one.reserved) == ("RTX 4090", 30 * MIB, 40 * MIB)
    assert one.shown == 900 * MIB
    setup = one.setup
    assert (setup.method, setup.micro_batch, setup.seq_length) == ("lora", TINY.rows, TINY.length)
    assert not setup.accumulates
    assert not setup.gradient_checkpointing


def test_the_grid_has_what_the_device_can_do() -> None:
    assert {one.method for one in grid(on_gpu=True)} == {"lora", "qlora", "full"}
    assert {one.method for one in grid(on_gpu=False)} == {"lora", "full"}


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tunedeck_home: Path) -> Any:
    """Lets the child print these lines, and end."""

    def says(*lines: str) -> None:
        script = tmp_path / "child.py"
        script.write_text(f"import sys\nprint({chr(10).join(lines)!r})\nsys.exit('it broke')")
        monkeypatch.setattr(
            children, "command", lambda module, *arguments: [sys.executable, str(script)]
        )

    return says


def test_what_the_child_measures_is_told_and_kept(child: Any, point: dict[str, Any]) -> None:
    problem = {"kind": "problem", "method": "qlora", "message": "no bitsandbytes"}
    child(json.dumps({"kind": "point", **point}), "a library says hello", json.dumps(problem))
    told: list[Any] = []
    (one,) = calibrate(told.append)
    assert told == [one, Failed("qlora", "no bitsandbytes")]
    assert one.source.startswith("calibrate-")
    assert [kept.source for kept in kept_measurements()] == [one.source]


def test_nothing_measured_is_an_error_with_the_childs_last_words(child: Any) -> None:
    child("")
    with pytest.raises(UserError, match=r"Nothing could be measured\. it broke"):
        calibrate(lambda point: None)
    assert not store().exists()


def test_last_words_that_arrive_late_are_waited_for(
    child: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = children.Child._collect_errors

    def late(self: children.Child) -> None:
        time.sleep(0.3)
        collect(self)

    monkeypatch.setattr(children.Child, "_collect_errors", late)
    child("")
    with pytest.raises(UserError, match=r"Nothing could be measured\. it broke"):
        calibrate(lambda point: None)


def test_a_home_that_cannot_be_written_is_said(
    child: Any, point: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(calibrating, "keep", refuse)
    child(json.dumps({"kind": "point", **point}))
    with pytest.raises(UserError, match="no space left"):
        calibrate(lambda point: None)
