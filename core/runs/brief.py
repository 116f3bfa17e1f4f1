"""What a list of runs says about each beyond its state: model, method, size on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from core.runs.directory import RunDirectory


@dataclass(frozen=True, slots=True)
class Brief:
    """The heart of a run's recipe. What an unreadable recipe does not say is empty."""

    name: str
    model: str
    method: str


def brief(run: RunDirectory) -> Brief:
    """Read it from the recipe, once: a run's recipe does not change."""
    return _brief(run.recipe)


@lru_cache(1024)
def _brief(path: Path) -> Brief:
    # Not `load_recipe`: a list of hundreds of runs needs three words of each, checked or not.
    import yaml

    try:
        tree = yaml.load(path.read_bytes(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        tree = None
    return Brief(_word(tree, "name"), _word(tree, "model", "id"), _word(tree, "method", "name"))


def _word(tree: Any, *keys: str) -> str:
    for key in keys:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree if isinstance(tree, str) else ""


def bytes_on_disk(run: RunDirectory) -> int:
    """What deleting the run would free; files that vanish meanwhile do not count."""
    total = 0
    for folder, _, names in os.walk(run.path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return total
