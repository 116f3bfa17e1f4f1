"""What a run has left on the disk, with sizes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from core.runs.directory import RunDirectory


@dataclass(frozen=True, slots=True)
class Output:
    """A folder (or file) that the run made. Size in bytes."""

    name: str
    path: Path
    size: int


def outputs(run: RunDirectory) -> list[Output]:
    """The adapter, the merged model and the exports, as far as they are there."""
    found = [("adapter", run.adapter), ("merged", run.merged)]
    try:
        exports = sorted(run.export.iterdir())
    except OSError:
        exports = []
    found += [(f"export/{path.name}", path) for path in exports]
    return [Output(name, path, tree_size(path)) for name, path in found if path.exists()]


def tree_size(path: Path) -> int:
    """The bytes of a file or of all files below a folder; what vanishes meanwhile counts 0."""
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total
