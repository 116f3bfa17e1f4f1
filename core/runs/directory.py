"""The run directory: the names of the things in it, and its making."""

from __future__ import annotations

import os
import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError, describe_os_error
from core.paths import expanded, runs_root

if TYPE_CHECKING:  # pydantic takes longer to load than the keeper of a run may take to start
    from core.recipe import Recipe


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The files of one run. Nothing is read or made by naming them."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def gpu(self) -> Path:
        return self.path / "gpu.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "worker.log"

    @property
    def control(self) -> Path:
        return self.path / "control"

    @property
    def data(self) -> Path:
        return self.path / "data"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def merged(self) -> Path:
        return self.path / "merged"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def eval(self) -> Path:
        return self.path / "eval"

    @property
    def chat(self) -> Path:
        return self.path / "chat"


def create_run(recipe: Recipe) -> RunDirectory:
    """Make the directory of a new run, with its recipe. UserError when the disk refuses."""
    root = runs_root()
    slug = re.sub(r"[^a-z0-9]+", "-", recipe.name.lower()).strip("-") or "run"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    try:
        root.mkdir(parents=True, exist_ok=True)
        path = root / f"{slug}-{stamp}"
        while True:
            try:
                path.mkdir()
                break
            except FileExistsError:
                path = root / f"{slug}-{stamp}-{secrets.token_hex(2)}"
        run = RunDirectory(path)
        run.control.mkdir()
        write_atomically(run.recipe, recipe.to_yaml())
    except OSError as error:
        raise describe_os_error(error, "make the run directory") from error
    return run


def find_run(name: str) -> RunDirectory:
    """The run with this id, an unambiguous beginning of it, a path, or `last`."""
    as_path = expanded(name)
    if (as_path / "recipe.yaml").is_file():
        return RunDirectory(as_path.resolve())
    ids = run_ids()
    if name == "last" and ids:
        return RunDirectory(runs_root() / ids[0])
    matches = [i for i in ids if i == name] or [i for i in ids if i.startswith(name)]
    if len(matches) == 1:
        return RunDirectory(runs_root() / matches[0])
    if matches:
        raise UserError(f"“{name}” could be any of {', '.join(matches[:5])}.", "Type more of it.")
    raise UserError(f"There is no run “{name}”.", "`tunedeck runs` lists them.")


def run_ids() -> list[str]:
    """The ids of all runs, newest first."""
    try:
        entries = [
            (entry.stat().st_ctime_ns, entry.name)
            for entry in os.scandir(runs_root())
            if os.path.exists(os.path.join(entry.path, "recipe.yaml"))
        ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise describe_os_error(error, "read the runs in") from error
    return [name for _, name in sorted(entries, key=_creation, reverse=True)]


def _creation(entry: tuple[int, str]) -> tuple[str, int]:
    """Sort key: the time stamp in the id, since the folder's own time moves with every write."""
    changed, name = entry
    stamp = re.search(r"\d{8}-\d{6}", name)
    return (stamp.group() if stamp else "", changed)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file so that a reader sees the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
