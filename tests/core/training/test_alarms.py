"""Curves that ought to alarm somebody, and curves that ought not."""

from __future__ import annotations

import random

from core.training.alarms import Alarms


def codes(losses: list[float], norms: list[float] | None = None) -> list[str]:
    alarms = Alarms()
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


def evaluations(losses: list[float]) -> list[str]:
    alarms = Alarms()
    return [a.code for step, loss in enumerate(losses) for a in alarms.evaluation(step, loss)]


def test_over_fitting_beyond_noise() -> None:
    assert evaluations([2.0, 1.0, 1.1, 1.2, 1.3, 1.4]) == ["over-fitting"]
    assert evaluations([2.0, 1.0, 1.01, 1.0, 1.015, 1.01, 1.005]) == []
    assert evaluations([2.0, 1.0, 1.1, 0.9, 1.0, 0.85]) == []
