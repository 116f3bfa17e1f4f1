"""Checkpoints that are either whole or not there.

A checkpoint is written below `checkpoints/.saving`, flushed to the disk, listed with its sizes
in `complete.json`, and only then renamed to its place. A kill at any moment leaves the one
before it as the newest.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from core.runs.directory import RunDirectory

MANIFEST = "complete.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def saving_folder(run: RunDirectory) -> Path:
    """Where checkpoints are written; what lies here is not one yet."""
    return run.checkpoints / ".saving"


def newest_checkpoint(run: RunDirectory) -> Path | None:
    """The latest checkpoint that is whole."""
    return next((path for path in reversed(checkpoints(run)) if is_whole(path)), None)


def checkpoints(run: RunDirectory) -> list[Path]:
    """All of them, oldest first."""
    try:
        entries = [path for path in run.checkpoints.iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    return sorted(entries, key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    """The step that the folder's name tells."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else -1


def is_whole(path: Path) -> bool:
    """Whether every file is there at its full size."""
    try:
        sizes: dict[str, int] = json.loads((path / MANIFEST).read_text())
        return all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def publish(folder: Path, place: Path) -> None:
    """Make a finished folder appear at its place in one step, safe against a power cut."""
    sizes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _flush(path)
            sizes[str(path.relative_to(folder))] = path.stat().st_size
    (folder / MANIFEST).write_text(json.dumps(sizes))
    _flush(folder / MANIFEST)
    if place.exists():
        discard(place)
    os.rename(folder, place)
    _flush(place.parent)


def prune(run: RunDirectory, keep: int, best_step: int | None = None) -> None:
    """Delete the oldest, so that `keep` and the best remain, and what broken-off saves left."""
    for path in checkpoints(run)[:-keep]:
        if checkpoint_step(path) != best_step:
            discard(path)
    clear_leftovers(run)


def clear_leftovers(run: RunDirectory) -> None:
    """Remove half-written and half-deleted checkpoints."""
    for path in run.checkpoints.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def discard(path: Path) -> None:
    """Delete a folder; a kill in between leaves nothing that looks whole."""
    doomed = path.with_name(f".old-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(path, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
