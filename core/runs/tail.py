"""The last lines of a file that may be long, torn or not there."""

from __future__ import annotations

import os
from pathlib import Path

from core.runs.events import Event, parse_lines

TAIL_BYTES = 32 * 1024


def tail_bytes(path: Path, limit: int = TAIL_BYTES) -> bytes:
    """At most the last `limit` bytes, from the start of a line on; empty if unreadable."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            chunk = file.read(limit)
    except OSError:
        return b""
    return chunk if size <= limit else chunk[chunk.find(b"\n") + 1 :]


def tail_lines(path: Path) -> list[str]:
    """The last lines as text. What a progress bar overwrote with `\\r` is gone."""
    lines = tail_bytes(path).decode("utf-8", "replace").splitlines()
    return [line.rsplit("\r", 1)[-1] for line in lines]


def tail_events(path: Path) -> list[Event]:
    """The last events of a file of JSON lines."""
    return parse_lines(tail_bytes(path))
