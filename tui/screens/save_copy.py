"""Where a cleaned copy of the rows shall be written."""

from __future__ import annotations

from pathlib import Path

from core.errors import describe_os_error
from core.paths import expanded
from core.text import printable
from tui.screens.ask_path import AskPathScreen


class SaveCopyScreen(AskPathScreen):
    """Ends with a path that is free, or None."""

    TITLE_WORDS = "Save a cleaned copy"
    ABOUT = (
        "Rows that cannot be trained on are left out, and so are exact repetitions, refusals, rows"
        " that are held out too, and those that hold secrets, broken characters or an empty"
        " answer. A second file lists every row left out, and why. The original stays as it is."
    )
    PLACEHOLDER = "a file to write"
    ENTER = "writes it"

    def why_not(self, typed: str) -> str:
        return why_not_there(expanded(typed))


def why_not_there(path: Path) -> str:
    """Why a copy cannot be written to this path, as a sentence; empty when it can."""
    name = printable(str(path), single_line=True)
    if not path.name:
        return "Type the name of a file."
    try:
        there = path.exists()
    except OSError as error:
        return f"✗ {describe_os_error(error, 'write')}"
    if there:
        kind = "is a folder" if path.is_dir() else "exists already, and is not overwritten"
        return f"✗ {name} {kind}. Type another name."
    if not path.absolute().parent.is_dir():
        return f"✗ There is no folder {printable(str(path.parent), single_line=True)}."
    return ""


def suggested_copy(source: str) -> Path:
    """A free name beside a file; in the working directory for a folder, a glob or a hub id."""
    path = Path(source)
    folder = path.parent if path.is_file() else Path.cwd()
    stem = path.name.split(".")[0] or "rows"
    numbers = ("", *(f"-{number}" for number in range(2, 1000)))
    names = (folder / f"{stem}.clean{number}.jsonl" for number in numbers)
    return next((name for name in names if not name.exists()), folder / f"{stem}.clean.jsonl")
