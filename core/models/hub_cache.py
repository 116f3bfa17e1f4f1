"""The Hugging Face cache on this machine, read without its library (which takes 0.2 s to load)."""

from __future__ import annotations

import os
from pathlib import Path

from core.paths import expanded


def cache_root() -> Path:
    """Where hub downloads lie, by the same variables that huggingface_hub reads."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if value := os.environ.get(name):
            return expanded(value)
    if value := os.environ.get("HF_HOME"):
        return expanded(value) / "hub"
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(base) / "huggingface" / "hub"


def repository(model_id: str) -> Path:
    """The cache's folder for a model, which need not exist."""
    return cache_root() / ("models--" + model_id.replace("/", "--"))


def snapshot(model_id: str, revision: str | None = None) -> Path | None:
    """The folder with the files of a revision, complete or not; None when there is none."""
    folder = repository(model_id)
    revision = revision or "main"
    try:
        commit = (folder / "refs" / revision).read_text().strip()
    except (OSError, ValueError):
        commit = revision  # the revision may be a commit itself
    path = folder / "snapshots" / commit
    return path if commit and path.is_dir() else None


def offline() -> bool:
    """Whether the user forbids the network (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE)."""
    setting = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return setting.upper() in ("1", "ON", "YES", "TRUE")
