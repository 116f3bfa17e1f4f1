"""A disk that fills up in the middle of a save: said, survived, and nothing half-written stays."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.training.checkpoints import checkpoints, is_whole

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]


def told(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


@pytest.fixture
def small_disk() -> Iterator[Callable[[Path, int], bool]]:
    """Mounts a file system of so many KiB, where that is allowed."""
    mounted: list[Path] = []

    def mount(place: Path, kib: int) -> bool:
        if sys.platform != "linux":
            return False
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return False
        mounted.append(place)
        return True

    yield mount
    for place in mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Limits the size of files that this process writes: a write beyond it fails half-way."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def fill_after_first(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, fill: Callable[[Path], None]
) -> None:
    """The disk fills up as soon as a checkpoint lies there."""
    from core.training import trainer

    original = trainer.publish

    def publish(folder: Path, place: Path) -> None:
        original(folder, place)
        fill(place)

    monkeypatch.setattr(trainer, "publish", publish)


def test_the_run_goes_on_without_the_checkpoint(
    new_run: NewRun,
    train_here: TrainHere,
    monkeypatch: pytest.MonkeyPatch,
    small_disk: Callable[[Path, int], bool],
    small_files: Callable[[int], None],
) -> None:
    """The first save succeeds, the second breaks off in the middle of a file, the result fits."""
    run = new_run(training={"max_steps": 8, "save_steps": 3})
    run.checkpoints.mkdir()
    on_its_own = small_disk(run.checkpoints, 4096)

    def fill(place: Path) -> None:
        weights = (place / "optimizer.pt").stat().st_size
        if not on_its_own:
            small_files(weights // 2)
            return
        ballast = run.checkpoints / "ballast"
        free = 4096 * 1024 - sum(f.stat().st_size for f in run.checkpoints.rglob("*"))
        ballast.write_bytes(b"0" * max(0, free - weights // 2 - 64 * 1024))

    fill_after_first(run, monkeypatch, fill)
    original = _on_save_result(monkeypatch, small_files)
    assert train_here(run) == 0
    assert original
    [warning] = told(run, "warning")
    assert warning["code"] == "disk-full"
    assert "could not be saved" in warning["message"]
    kept = checkpoints(run)
    assert [path.name for path in kept] == ["checkpoint-3"]
    assert is_whole(kept[0])
    assert not list(run.checkpoints.glob(".*"))
    assert [event["step"] for event in told(run, "log")][-1] == 8
    assert (run.adapter / "adapter_model.safetensors").is_file()


def _on_save_result(
    monkeypatch: pytest.MonkeyPatch, small_files: Callable[[int], None]
) -> list[bool]:
    """Room again for the result, which lies on the larger disk."""
    from core.training import session

    original, seen = session.save_result, []

    def save(*arguments: object) -> None:
        small_files(resource.RLIM_INFINITY)
        seen.append(True)
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "save_result", save)
    return seen


def test_a_result_that_does_not_fit_is_one_sentence_and_can_be_resumed(
    new_run: NewRun,
    train_here: TrainHere,
    monkeypatch: pytest.MonkeyPatch,
    small_files: Callable[[int], None],
) -> None:
    from core.training import session

    run = new_run(training={"max_steps": 4, "save_steps": 3})
    original = session.save_result

    def save(*arguments: object) -> None:
        small_files(20_000)
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "save_result", save)
    assert train_here(run) == 1
    small_files(resource.RLIM_INFINITY)
    [error] = told(run, "error")
    assert error["code"] == "disk-full"
    assert "Traceback" not in json.dumps(error)
    assert not run.adapter.exists()
    assert not list(run.path.glob(".adapter*"))
    assert is_whole(checkpoints(run)[-1])
    monkeypatch.setattr(session, "save_result", original)
    assert train_here(run) == 0
    assert (run.adapter / "adapter_model.safetensors").is_file()


def test_a_stop_on_a_full_disk_says_that_steps_are_lost(
    new_run: NewRun,
    train_here: TrainHere,
    monkeypatch: pytest.MonkeyPatch,
    small_files: Callable[[int], None],
) -> None:
    run = new_run(training={"max_steps": 8, "save_steps": 3})

    def fill(place: Path) -> None:
        small_files(20_000)
        (run.control / "stop").touch()

    fill_after_first(run, monkeypatch, fill)
    assert train_here(run) == 1
    small_files(resource.RLIM_INFINITY)
    [error] = told(run, "error")
    assert error["code"] == "disk-full"
    assert [path.name for path in checkpoints(run)] == ["checkpoint-3"]
    assert is_whole(checkpoints(run)[0])
