"""A child's side of `core.children`: JSON lines on stdout, and an end with its parent."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from threading import Thread
from typing import Any


class Wire:
    """Messages out on the real stdout; whatever else a library prints goes to stderr."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, **fields: Any) -> None:
        try:
            self._out.write(json.dumps(fields, ensure_ascii=True, default=str) + "\n")
            self._out.flush()
        except BrokenPipeError:
            os._exit(0)  # nobody listens any more


def requests() -> Iterator[dict[str, Any]]:
    """The requests on stdin, to its end.

    Read from the descriptor: a thread that waits in `sys.stdin` would abort Python when it ends.
    """
    rest = b""
    while chunk := os.read(0, 65536):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield json.loads(line)


def end_with_stdin() -> None:
    """End this process when its parent closes our stdin, or dies. What it writes is atomic."""

    def wait() -> None:
        for _ in requests():
            continue
        os._exit(1)

    Thread(target=wait, daemon=True).start()
