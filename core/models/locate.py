"""From a model's name to a folder with its files: local, embedded, cached or from the hub."""

from __future__ import annotations

import re
from pathlib import Path

from core.errors import UserError
from core.models import embedded
from core.models.download import Progress, download, silent
from core.models.folder import check_local, missing
from core.models.hub_cache import offline, snapshot
from core.paths import expanded

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def locate(model_id: str, revision: str | None = None, progress: Progress | None = None) -> Path:
    """The folder with config, weights and tokenizer. Downloads what is not there yet.

    UserError when it is no model, is gated, does not exist or cannot be reached.
    """
    return _locate(model_id, revision, progress or silent, weights=True)


def locate_tokenizer(
    model_id: str, revision: str | None = None, progress: Progress | None = None
) -> Path:
    """A folder with at least config and tokenizer: a few MB, not the weights."""
    return _locate(model_id, revision, progress or silent, weights=False)


def is_local(model_id: str) -> bool:
    """Whether the name means a place on this machine rather than a hub id."""
    return (
        model_id.startswith(("/", ".", "~"))
        or Path(model_id).exists()
        or _HUB_ID.fullmatch(model_id) is None
    )


def _locate(model_id: str, revision: str | None, progress: Progress, *, weights: bool) -> Path:
    if is_local(model_id):
        return check_local(expanded(model_id), weights=weights)
    if model_id == embedded.MODEL_ID and revision is None:
        return _embedded(progress, weights=weights)
    found = snapshot(model_id, revision)
    if found is not None and not missing(found, weights=weights):
        return found
    if offline():
        raise UserError(
            f"{model_id} is not in the local cache, and HF_HUB_OFFLINE forbids to fetch it.",
            "Unset HF_HUB_OFFLINE, or give a local folder.",
        )
    folder = download(model_id, revision, progress, weights=weights)
    if problems := missing(folder, weights=weights):
        raise UserError(
            f"{model_id} on the hub cannot be trained: {'; '.join(problems)}.",
            "Choose a repository with safetensors weights and a tokenizer.",
        )
    return folder


def _embedded(progress: Progress, *, weights: bool) -> Path:
    """The demo's model; its tokenizer alone where an earlier look left that in the cache."""
    if not weights:
        found = embedded.cached() or snapshot(embedded.MODEL_ID)
        if found is not None and not missing(found, weights=False):
            return found
    return embedded.locate_embedded(progress)
