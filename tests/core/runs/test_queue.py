"""Queued runs begin one after another, and stop, start and die like any other."""

from __future__ import annotations

import json
from collections.abc import Callable

from core.recipe import Recipe
from core.runs import queue
from core.runs.state import RunState, current_state
from core.runs.supervisor import launch, request, stop
from tests.core.runs.conftest import wait_for

Stages = Callable[..., None]


def training(state: RunState) -> bool:
    return state.stage == "training"


def waiting(state: RunState) -> bool:
    return state.stage == queue.STAGE


def over(state: RunState) -> bool:
    return not state.alive


def test_one_begins_when_the_ones_before_have_ended(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    first = launch(recipe)
    wait_for(first, training)
    second = launch(recipe, queued=True)
    wait_for(second, waiting)
    stages("passes")
    third = launch(recipe, queued=True)
    wait_for(third, waiting)
    assert set(queue.runs_before(third)) == {first.id, second.id}
    stop(first, now=True)
    wait_for(second, training)
    assert current_state(third).stage == queue.STAGE
    stop(second, now=True)
    assert wait_for(third, over).phase == "finished"
    begun = [json.loads(line) for line in third.events.read_text().splitlines()]
    assert [event["stage"] for event in begun[:2]] == ["", queue.STAGE]


def test_a_waiting_run_can_be_stopped(stages: Stages, recipe: Recipe) -> None:
    stages("sleeps")
    first = launch(recipe)
    stages("passes")
    second = launch(recipe, queued=True)
    wait_for(second, waiting)
    request(second, "stop")
    assert wait_for(second, over).phase == "stopped"
    assert not (second.path / "passed").exists()
    assert not queue.is_queued(second)
    assert current_state(first).alive


def test_an_empty_queue_does_not_wait(stages: Stages, recipe: Recipe) -> None:
    stages("passes")
    run = launch(recipe, queued=True)
    assert wait_for(run, over).phase == "finished"
