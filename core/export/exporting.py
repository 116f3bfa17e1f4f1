"""Ways out of TuneDeck: the merged model in a folder, or a script that talks to it.

What is written appears whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from core.children import Child
from core.errors import UserError, describe_os_error
from core.export.script import script
from core.paths import expanded
from core.recipe import load_recipe
from core.runs.directory import RunDirectory, write_atomically

KINDS = ("merged", "script")


def export(run: RunDirectory, to: str = "merged", destination: Path | None = None) -> Path:
    """Write the run's tuned model to `destination` (default: in the run's export/); its path.

    "merged" is a folder that transformers loads, "script" a Python file that talks to the merged
    model where it lies. A missing merged/ is made first, in a child process.
    """
    if to not in KINDS:
        raise UserError(f"There is no export “{to}”.", f"Choose from {', '.join(KINDS)}.")
    name = "merged" if to == "merged" else f"chat_{run.id}.py"
    place = expanded(destination or run.export / name).absolute()
    _check_free(place)
    _make_merged(run)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        if to == "merged":
            _copy_folder(run.merged, place)
        else:
            write_atomically(place, script(run.merged, place.name))
            place.chmod(place.stat().st_mode | stat.S_IXUSR)
    except OSError as error:
        raise describe_os_error(error, "export to") from error
    return place


def _check_free(place: Path) -> None:
    """An empty folder may be filled, our own export/ may be renewed; nothing else is replaced."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if place.parent.name == "export" and (place.parent.parent / "recipe.yaml").is_file():
        return
    raise UserError(f"{place} exists already.", "Choose another destination, or delete it.")


def _make_merged(run: RunDirectory) -> None:
    """merged/ of a run that was trained without merging. UserError when it cannot be made."""
    if (run.merged / "config.json").is_file():
        return
    if not (run.adapter / "adapter_config.json").is_file():
        raise UserError(f"{run.id} has no trained model yet.", "Let it train to the end.")
    method = load_recipe(run.recipe).method.spec
    if not method.merges:
        raise UserError(
            f"{method.title} cannot be merged into the model, so there is no model to export.",
            f"The adapter in {run.adapter} works on its base, with peft and in tunedeck chat.",
        )
    child = Child("core.export.merging", str(run.path))
    try:
        for message in child:
            raise UserError(message["message"], message["remedy"])
        code = child.wait()
    finally:
        child.close()
    if code != 0:
        last = child.last_errors.strip().splitlines()
        reason = f": {last[-1]}" if last else "."
        raise UserError(f"Merging ended with exit code {code}{reason}")


def _copy_folder(source: Path, place: Path) -> None:
    """A copy under a passing name, then moved. Weights are linked where the disk allows it."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    old = place.with_name(f".{place.name}.{os.getpid()}.old")
    try:
        shutil.copytree(source, temporary, copy_function=_link_or_copy)
        if place.exists():
            os.rename(place, old)
        os.rename(temporary, place)
    except shutil.Error as error:  # what copytree collects; each part ends in a sentence
        raise OSError(None, str(error.args[0][0][2]), str(place)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _link_or_copy(source: str, target: str) -> str:
    """Weights are never written in place, so that a link is as good as a copy, and free.

    The small files are copied: somebody may edit them.
    """
    if source.endswith(".safetensors"):
        try:
            os.link(os.path.realpath(source), target)
        except OSError:  # another disk, or one that knows no links
            pass
        else:
            return target
    return shutil.copy2(source, target)
