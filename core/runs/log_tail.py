"""The last lines of a log as a person reads them."""

from __future__ import annotations

import re
from pathlib import Path

from core.runs.tail import tail_bytes

LOG_BYTES = 128 * 1024
_STYLES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def log_lines(path: Path, count: int) -> list[str]:
    """At most `count` last lines as a terminal would leave them.

    Colours are dropped, and of a line that redraws itself with carriage returns (progress
    bars) the last telling stays. The lines are still untrusted text. A missing file is empty.
    """
    text = tail_bytes(path, min(LOG_BYTES, count * 512)).decode("utf-8", "replace")
    lines = (_settled(line) for line in text.split("\n"))
    return [line for line in lines if line.strip()][-count:]


def _settled(line: str) -> str:
    parts = [part for part in _STYLES.sub("", line).split("\r") if part.strip()]
    return parts[-1] if parts else ""
