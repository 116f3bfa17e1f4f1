"""A checkpoint is whole or it is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.runs.directory import RunDirectory
from core.training import checkpoints
from core.training.checkpoints import (
    clear_leftovers,
    is_whole,
    newest_checkpoint,
    prune,
    publish,
    saving_folder,
)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def save(run: RunDirectory, step: int) -> Path:
    folder = saving_folder(run) / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"w" * 1000)
    place = run.checkpoints / folder.name
    publish(folder, place)
    return place


def test_the_newest_by_step_not_by_name(run: RunDirectory) -> None:
    for step in (9, 100, 20):
        save(run, step)
    newest = newest_checkpoint(run)
    assert newest is not None
    assert newest.name == "checkpoint-100"


def test_none_at_all(run: RunDirectory) -> None:
    assert newest_checkpoint(run) is None


def test_a_cut_file_is_noticed(run: RunDirectory) -> None:
    first, second = save(run, 1), save(run, 2)
    (second / "weights").write_bytes(b"w" * 999)
    assert not is_whole(second)
    assert newest_checkpoint(run) == first


def test_an_interrupted_save_is_not_seen(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(run, 1)

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.os, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        save(run, 2)
    monkeypatch.undo()
    assert newest_checkpoint(run) == first
    clear_leftovers(run)
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-1"]


def test_an_interrupted_deletion_is_not_seen(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2, 3):
        save(run, step)
    monkeypatch.setattr(checkpoints.shutil, "rmtree", lambda *a, **k: None)
    prune(run, 1)
    assert [path.name for path in checkpoints.checkpoints(run)] == ["checkpoint-3"]


def test_the_last_are_kept(run: RunDirectory) -> None:
    for step in range(1, 6):
        save(run, step)
        prune(run, 2)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "checkpoint-4",
        "checkpoint-5",
    ]


def test_the_best_is_kept_beside_the_last(run: RunDirectory) -> None:
    for step in range(1, 6):
        save(run, step)
        prune(run, 1, best_step=2)
    assert {path.name for path in run.checkpoints.iterdir()} == {"checkpoint-2", "checkpoint-5"}
