"""Standard input as a source: put aside in a temporary file, because a source is read twice."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from core.errors import UserError, describe_os_error

STANDARD_INPUT = "-"
"""The name that means it."""
_CHUNK = 1 << 20


def standard_input() -> Path:
    """A file with everything that came in. UserError when nothing is piped in."""
    return _folder() / "standard input"


@cache
def _kept() -> tempfile.TemporaryDirectory[str]:
    """It goes when the program ends."""
    return tempfile.TemporaryDirectory(prefix="tunedeck-")


@cache
def _folder() -> Path:
    try:
        if os.isatty(0):
            raise UserError(
                "Nothing is piped into standard input.", "Write for example: cat FILE | … inspect -"
            )
        folder = Path(_kept().name)
        with os.fdopen(os.dup(0), "rb") as stream, (folder / "standard input").open("wb") as file:
            shutil.copyfileobj(stream, file, _CHUNK)
            if not file.tell():
                raise UserError("Nothing came in on standard input.", "Pipe the rows into it.")
    except OSError as error:
        raise describe_os_error(error, "read standard input") from error
    return folder
