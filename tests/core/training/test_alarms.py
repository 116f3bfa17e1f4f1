"""Curves that ought to alarm somebody, and curves that ought not."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from core.runs.directory import RunDirectory
from core.runs.events import EventReader
from core.training.alarms import Alarms
from core.training.best import Evaluation


def codes(losses: list[float], norms: list[float] | None = None, total: int = 0) -> list[str]:
    alarms = Alarms(total)
    found = []
    for step, loss in enumerate(losses, 1):
        norm = norms[step - 1] if norms else 1.0
        found += [alarm.code for alarm in alarms.step(step, loss, norm)]
    return found


def test_a_healthy_noisy_curve_is_quiet() -> None:
    generator = random.Random(0)
    curve = [3.0 * 0.97**step + generator.uniform(0.02, 0.2) for step in range(200)]
    norms = [generator.uniform(0.2, 3.0) for _ in curve]
    assert codes(curve, norms) == []


def test_a_spike_once() -> None:
    assert codes([1.0] * 20 + [8.0] + [1.0] * 5 + [9.0]) == ["loss-spike"]


def test_the_first_steps_may_jump() -> None:
    assert codes([1.0, 9.0, 1.0, 12.0]) == []


def test_an_exploding_gradient() -> None:
    assert codes([1.0] * 21, [0.5] * 20 + [50.0]) == ["exploding-gradient"]


def test_exactly_zero() -> None:
    assert codes([2.0, 0.0, 0.0, 0.0]) == ["zero-loss"]
    assert codes([2.0, 1e-6, 1e-6, 1e-6, 0.0]) == []


def test_not_a_number_is_left_to_the_watch() -> None:
    assert codes([1.0] * 12 + [float("nan")] * 3, [1.0] * 12 + [float("nan")] * 3) == []


def evaluations(losses: list[float], rows: int = 0, scatter: float = 0.0) -> list[str]:
    """Codes for a curve of held-out losses; with `rows`, each is the mean of so many that scatter
    independently of one another."""
    alarms, generator = Alarms(), random.Random(0)
    found = []
    for step, loss in enumerate(losses):
        sums = [loss + generator.gauss(0, scatter) for _ in range(rows)]
        mean = sum(sums) / rows if rows else loss
        found += alarms.evaluation(Evaluation(step, sums, [1] * rows), mean)
    return [alarm.code for alarm in found]


def test_over_fitting_beyond_noise() -> None:
    assert evaluations([2.0, 1.0, 1.1, 1.2, 1.3, 1.4]) == ["over-fitting"]
    assert evaluations([2.0, 1.0, 1.01, 1.0, 1.015, 1.01, 1.005]) == []
    assert evaluations([2.0, 1.0, 1.1, 0.9, 1.0, 0.85]) == []


def test_the_noise_of_the_held_out_rows_counts() -> None:
    rising = [1.0, 1.01, 1.015, 1.012, 1.016]
    assert evaluations(rising, rows=100, scatter=0.01) == ["over-fitting"]
    assert evaluations(rising, rows=100, scatter=0.5) == []


def test_a_held_out_loss_that_is_no_number() -> None:
    assert evaluations([1.0, math.nan, math.nan]) == ["nan-held-out"]


def test_a_loss_that_does_not_fall() -> None:
    generator = random.Random(0)
    flat = [2.0 + generator.uniform(-0.2, 0.2) for _ in range(200)]
    assert codes(flat) == ["under-fitting"]
    assert codes(flat[:59]) == []
    assert codes(flat[:99], total=400) == []
    assert codes([loss - step * 0.002 for step, loss in enumerate(flat)]) == []
    assert codes([2.0] * 5 + [0.5] * 100) == []


def test_a_resumed_run_does_not_know_how_it_began() -> None:
    alarms = Alarms()
    assert [alarms.step(step, 0.5, 1.0) for step in range(200, 400)] == [[]] * 200


def test_a_training_that_learns_nothing_says_so(
    new_run: Callable[..., RunDirectory], train_here: Callable[[RunDirectory], int]
) -> None:
    """For real: at such a learning rate no weight moves."""
    sizes = {"micro_batch": 2, "gradient_accumulation": 1, "save_steps": 500, "eval_steps": 500}
    run = new_run(training={"learning_rate": 1e-12, "epochs": 9, "max_steps": 61, **sizes})
    assert train_here(run) == 0
    told = [event for event in EventReader(run.events).read() if event["kind"] == "warning"]
    assert [event["code"] for event in told] == ["under-fitting"]
    assert "learning_rate" in told[0]["remedy"]
