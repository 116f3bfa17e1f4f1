from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from core.models.catalogue import card_for
from core.planning import calibration
from core.planning.calibration import (
    ASSUMED,
    Measurement,
    calibration_for,
    gpu_device,
    installed_stack,
    keep,
    kept_measurements,
    store,
)
from core.planning.candidates import Candidate
from core.planning.learning import measurement_of, measurements
from core.planning.planner import plan
from core.recipe import Recipe
from core.runs.directory import RunDirectory, create_run
from core.runs.events import EventWriter
from core.runs.state import RunState, write_state
from core.units import GIB
from tests.core.planning.test_planner import CHAT, found, machine

MODEL = "Qwen/Qwen3-8B"


def measured(factor: float = 1.0, **changes: Any) -> Measurement:
    """A QLoRA run of an 8B model on a 4090 that took `factor` times as long as assumed."""
    one = Measurement(
        source="run-1",
        device="RTX 4090",
        on_gpu=True,
        cores=8,
        method="qlora",
        stack=installed_stack(),
        shape=card_for(MODEL).shape,
        tokens_per_s=1.0,
        tokens_per_row=300.0,
        micro_batch=4,
        gradient_checkpointing=True,
    )
    one = replace(one, **changes)
    return replace(one, tokens_per_s=one.factor / factor)


def planned(*known: Measurement, model: str = MODEL, method: str = "qlora") -> Candidate:
    return found(plan(machine(24), CHAT, measured=known), model, method)


def width(candidate: Candidate) -> float:
    assert candidate.seconds_high is not None
    assert candidate.seconds_low is not None
    return candidate.seconds_high / candidate.seconds_low


def test_what_was_trained_counts_as_it_was() -> None:
    """Bits, rank, objective and GPUs change what is assumed, so the same speed says otherwise."""
    one = replace(measured(1.0, method="lora"), tokens_per_s=1000.0)
    assert replace(one, bits=4).factor < one.factor, "unpacking was expected to cost"
    assert replace(one, rank=256).factor < one.factor
    assert replace(one, gpus=2).factor == pytest.approx(2 * one.factor)
    pairs = replace(one, objective="dpo", tokens_per_row=600.0)
    assert pairs.factor != one.factor


def test_preferences_are_judged_by_runs_of_preferences() -> None:
    answers, pairs = measured(2.0), measured(3.0, objective="dpo", source="run-2")
    known = calibration_for("RTX 4090", [answers, pairs])
    size = answers.shape.parameters
    assert known.pace("qlora", size).factor == pytest.approx(2.0)
    assert known.pace("qlora", size, "dpo").factor == pytest.approx(3.0)
    assert known.pace("qlora", size, "kto").how == "measured otherwise"


def test_without_a_measurement_the_range_is_wide_and_called_assumed() -> None:
    candidate = planned()
    assert candidate.pace == ASSUMED
    assert width(candidate) > 3


def test_a_measured_run_moves_the_time_and_narrows_the_range() -> None:
    before, after = planned(), planned(measured(2.0))
    assert after.pace.how == "measured"
    assert after.pace.factor == pytest.approx(2.0)
    assert before.seconds is not None
    assert after.seconds is not None
    assert after.seconds > 1.6 * before.seconds
    assert width(after) < width(before) / 1.9
    three = planned(*(measured(f, source=f"run-{f}") for f in (1.98, 2.0, 2.02)))
    assert three.pace.runs == 3
    assert width(three) < width(after)


def test_what_is_less_alike_narrows_less() -> None:
    alike = planned(measured(2.0))
    older = planned(measured(2.0, stack="torch 1.0"))
    other = planned(measured(2.0), method="lora")
    small = planned(measured(2.0), model="Qwen/Qwen3-0.6B")
    for one in (older, other, small):
        assert one.pace.how == "measured otherwise"
        assert width(alike) < width(one) < width(planned())


def test_another_gpu_learns_nothing() -> None:
    assert planned(measured(2.0, device="L40S")).pace == ASSUMED


def test_runs_count_instead_of_trials() -> None:
    trial = measured(4.0, source=f"{calibration.CALIBRATED}-1")
    assert planned(trial).pace.factor == pytest.approx(4.0)
    assert planned(trial, measured(2.0)).pace.factor == pytest.approx(2.0)


def test_a_gpu_of_unknown_speed_has_times_once_it_was_measured() -> None:
    strange = machine(24, name="NVIDIA Prototype")
    assert plan(strange, CHAT).candidates[0].seconds is None
    known = measured(1.0, device="NVIDIA Prototype")
    result = plan(strange, CHAT, measured=[known])
    assert result.candidates[0].seconds is not None
    assert "speed is not known" not in result.note


def test_a_laptops_chip_is_not_the_card_of_that_name() -> None:
    assert gpu_device("NVIDIA GeForce RTX 4090", 24 * GIB) == "RTX 4090"
    laptop = "NVIDIA GeForce RTX 4090 Laptop GPU"
    assert gpu_device(laptop, 16 * GIB) == laptop


def test_the_store_keeps_measurements_and_skips_what_it_cannot_read() -> None:
    assert kept_measurements() == []
    one = measured(2.0)
    keep([one])
    with store().open("a") as file:
        file.write('{"torn\n[]\n{"source": "x", "shape": 3}\n')
        file.write(json.dumps({**asdict(one), "tokens_per_s": 0.0}) + "\n")
    keep([replace(one, source="run-2")], barren=["run-3"])
    assert [kept.source for kept in kept_measurements()] == ["run-1", "run-2"]
    assert calibration.known_sources() == {"run-1", "run-2", "run-3", "x"}


def finished_run(name: str, *, steps: int, facts: bool = True, phase: Any = "finished") -> Any:
    run = create_run(Recipe.model_validate({"name": name, "model": MODEL, "data": "d"}))
    write_state(run, RunState(phase=phase))
    events = EventWriter(run.events)
    for step in range(1, steps + 1):
        speed = 100.0 if step <= 2 else 1000.0 + step % 3
        events.write("log", step=step, loss=1.0, tokens_per_s=speed, step_seconds=1.0)
    if facts:
        tree = asdict(measured(1.0))
        for key in ("source", "tokens_per_s", "taken"):
            del tree[key]
        events.write("measured", **tree)
    return run


def test_a_finished_run_is_learnt_from_once(monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run("good", steps=20)
    finished_run("short", steps=4)
    finished_run("mute", steps=20, facts=False)
    (one,) = measurements()
    assert one.tokens_per_s == pytest.approx(1001.0)  # the first steps, which warm up, left out
    assert one.device == "RTX 4090"
    read: list[RunDirectory] = []
    monkeypatch.setattr(
        "core.planning.learning.measurement_of", lambda run: read.append(run) or measurement_of(run)
    )
    assert [again.source for again in measurements()] == [one.source]
    assert read == []


def test_a_home_that_cannot_be_written_still_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run("good", steps=20)

    def refuse(*arguments: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("core.planning.learning.keep", refuse)
    assert len(measurements()) == 1
