"""The same command on the next machine goes on with the same run, or says why it cannot."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.recipe import Recipe, load_recipe, parse_recipe
from core.runs import auto_resume, lock
from core.runs.auto_resume import start_or_resume
from core.runs.directory import RunDirectory
from core.runs.identity import (
    SOURCES,
    check_same,
    checkpoint_identity,
    differences,
    identity,
    source_digests,
)
from core.runs.lock import holder, is_locked
from core.runs.state import RunState, current_state
from core.runs.supervisor import launch, stop
from tests.core.runs.conftest import wait_for

Stages = Callable[..., None]


def training(state: RunState) -> bool:
    return state.stage == "training"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "one"}\n')
    return path


def asked(rows: Path, **sections: Any) -> Recipe:
    return parse_recipe({"name": "night", "model": "m", "data": str(rows), **sections}, "test")


def stopped_run(recipe: Recipe) -> RunDirectory:
    run = launch(recipe)
    wait_for(run, training)
    stop(run, now=True)
    return run


def test_started_then_watched_then_resumed(stages: Stages, home: Path, rows: Path) -> None:
    stages("sleeps")
    run = start_or_resume(asked(rows))
    wait_for(run, training)
    assert start_or_resume(asked(rows)).id == run.id
    other = start_or_resume(asked(rows, name="other"))
    assert other.id != run.id
    stop(run, now=True)
    assert start_or_resume(asked(rows)).id == run.id
    assert is_locked(run.lock)


def test_a_finished_run_is_not_begun_again(stages: Stages, home: Path, rows: Path) -> None:
    stages("passes")
    run = start_or_resume(asked(rows))
    wait_for(run, lambda state: not state.alive)
    assert start_or_resume(asked(rows)).id == run.id
    assert current_state(run).phase == "finished"


@pytest.mark.parametrize(
    ("sections", "difference"),
    [
        ({"method": {"rank": 8}}, "method.rank: 16 → 8"),
        ({"method": {"target_modules": "attention"}}, "target_modules: all-linear → attention"),
        ({"model": "other"}, "model.id: m → other"),
        ({"training": {"learning_rate": 1e-3}}, "training.learning_rate: 0.0002 → 0.001"),
        ({"training": {"micro_batch": 8}}, "training.effective_batch: 16 → 32"),
    ],
)
def test_a_changed_recipe_is_refused_with_the_difference(
    stages: Stages, home: Path, rows: Path, sections: dict[str, Any], difference: str
) -> None:
    stages("sleeps")
    run = stopped_run(asked(rows))
    with pytest.raises(UserError, match="the recipe has changed") as caught:
        start_or_resume(asked(rows, **sections))
    assert difference in caught.value.message
    assert run.id in caught.value.message
    assert not is_locked(run.lock)


def test_changed_data_is_refused(stages: Stages, home: Path, rows: Path) -> None:
    stages("sleeps")
    run = stopped_run(asked(rows))
    run.data.mkdir()
    (run.data / SOURCES).write_text(json.dumps(source_digests(asked(rows).data)))
    rows.write_text('{"text": "two"}\n')
    with pytest.raises(UserError, match=r"other data: .*rows\.jsonl has changed"):
        start_or_resume(asked(rows))
    rows.unlink()
    assert start_or_resume(asked(rows)).id == run.id


def test_what_may_change_takes_effect(stages: Stages, home: Path, rows: Path) -> None:
    """But not the micro-batch: the run may have found out that a larger one does not fit."""
    stages("sleeps")
    run = stopped_run(asked(rows, training={"micro_batch": 1, "gradient_accumulation": 16}))
    start_or_resume(asked(rows, training={"keep_checkpoints": 5}, evaluation={"rows": 7}))
    now = load_recipe(run.recipe)
    assert (now.training.keep_checkpoints, now.evaluation.rows) == (5, 7)
    assert (now.training.micro_batch, now.training.gradient_accumulation) == (1, 16)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"name": "full"}, {"name": "full", "rank": 8, "virtual_tokens": 9}, []),
        ({"name": "ia3"}, {"name": "ia3", "target_modules": "attention"}, []),
        ({"name": "qlora"}, {"name": "qlora", "bits": 4}, []),
        ({"name": "lora"}, {"name": "lora", "bits": 4}, ["method.bits: 16 → 4"]),
        ({"name": "lora"}, {"name": "dora"}, ["method.name: lora → dora"]),
        ({"name": "lora+"}, {"name": "lora+", "lr_ratio": 4}, ["method.lr_ratio: 16.0 → 4.0"]),
        ({"name": "prefix"}, {"name": "prefix", "virtual_tokens": 9}, ["virtual_tokens: 20 → 9"]),
        ({"name": "last-layers"}, {"name": "last-layers", "layers": 1}, ["method.layers: 2 → 1"]),
    ],
)
def test_of_a_method_what_means_something_to_it_must_stay(
    rows: Path, before: dict[str, Any], after: dict[str, Any], changes: list[str]
) -> None:
    recipes = [asked(rows, method=method) for method in (before, after)]
    found = differences(*map(identity, recipes))
    assert len(found) == len(changes)
    assert all(change in said for change, said in zip(changes, found, strict=True))


def test_a_moved_model_is_the_same_model(tmp_path: Path, rows: Path) -> None:
    places = [tmp_path / name for name in ("here", "there", "different")]
    for place in places:
        place.mkdir()
        (place / "config.json").write_text("{}" if place.name != "different" else "{ }")
    found = [checkpoint_identity(asked(rows, model=str(place)), place, rows) for place in places]
    check_same(found[0], found[1], "it")
    assert differences(found[0], found[2]) == [f"base model: {places[0]} → {places[2]}"]
    moved = {**found[0], "encoded rows": "?"}
    assert differences(found[0], moved) == ["encoded rows: not those it began with"]


def test_a_key_of_a_later_version_is_no_change(rows: Path) -> None:
    now = identity(asked(rows))
    assert differences({}, now) == []
    assert differences({**now, "method.forgotten": 1}, now) == []


def test_the_lock_of_a_machine_that_is_gone(
    stages: Stages, home: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server holds on to it for a while; then the run goes on here."""
    stages("sleeps")
    run = launch(asked(rows))
    state = wait_for(run, training)
    keeper = holder(run.lock)
    assert keeper is not None
    monkeypatch.setattr(auto_resume, "_size", lambda path: 1)  # it writes no more
    with monkeypatch.context() as patch:
        patch.setattr(lock, "this_host", lambda: "another machine")
        patch.setattr(auto_resume, "LEASE_SECONDS", 0.0)
        with pytest.raises(UserError, match="still locked by") as caught:
            start_or_resume(asked(rows))
        assert "`lock`" in caught.value.remedy
        with pytest.raises(UserError, match="runs on another machine"):
            stop(run, now=True)
        assert holder(run.lock) is None
    lost = [True]

    def here() -> str:
        if lost:
            lost.clear()
            os.killpg(keeper, signal.SIGKILL)
            return "another machine"
        return real()

    real = lock.this_host
    with monkeypatch.context() as patch:
        patch.setattr(lock, "this_host", here)
        assert start_or_resume(asked(rows)).id == run.id
    assert wait_for(run, lambda now: training(now) and now.pid != state.pid).pid != state.pid


def test_a_run_that_is_at_work_elsewhere_is_watched(
    stages: Stages, home: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages("sleeps")
    run = launch(asked(rows))
    wait_for(run, training)
    with monkeypatch.context() as patch:
        patch.setattr(lock, "this_host", lambda: "another machine")
        assert start_or_resume(asked(rows)).id == run.id
    assert is_locked(run.lock)


def test_a_disk_without_locks_is_said(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / "lock").touch()
    monkeypatch.setattr(lock.fcntl, "lockf", refuse)
    assert not is_locked(tmp_path / "lock")
    with pytest.raises(UserError, match="cannot lock files"):
        lock.RunLock(tmp_path / "lock").acquire()
