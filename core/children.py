"""Child processes that the app talks to: JSON lines in, JSON lines out.

The heavy libraries live in such children (the tokenizer, the model that chats), so that the app
stays small and quick. Requests and replies are dictionaries; a child ends when its stdin does,
so none outlives the app.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

from core.errors import UserError

Message = dict[str, Any]

CONSIDERATE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5000"}
"""For children that compute with torch: threads that wait spin for microseconds, then sleep.

With libgomp's default they spin for long, and beside other work on the same cores a step took
six times as long; sleeping at once costs a quarter of the speed on idle cores.
"""

LAST_WORDS = 2.0
"""Seconds that an ended child's last words may take to arrive; whoever else writes there may go on
for longer."""


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs `module` in this Python.

    `-P` keeps the working directory out of `sys.path`: a user's own `core.py` must not shadow
    ours.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


class Child:
    """A running child. `send` writes a request, iterating reads messages until it ends."""

    def __init__(
        self, module: str, *arguments: str, environment: dict[str, str] | None = None
    ) -> None:
        try:
            self._process = subprocess.Popen(
                command(module, *arguments),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**CONSIDERATE, **os.environ, **(environment or {})},
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise UserError(f"Cannot start {module}: {error.strerror}.") from error
        self._errors: deque[str] = deque(maxlen=40)
        self._listener = Thread(target=self._collect_errors, daemon=True)
        self._listener.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def last_errors(self) -> str:
        """The last lines the child wrote to stderr, for a report of why it died."""
        if self._process.poll() is not None:
            self._listener.join(LAST_WORDS)
        return "".join(self._errors)

    def send(self, message: Message) -> None:
        """Write one request. UserError when the child has gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError, OSError) as error:
            raise UserError("The helper process has ended.") from error

    def __iter__(self) -> Iterator[Message]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                continue  # a library printed to stdout
            if isinstance(message, dict):
                yield message

    def wait(self, timeout: float | None = None) -> int:
        return self._process.wait(timeout)

    def interrupt(self) -> None:
        """SIGINT: the child abandons what it is doing and waits for the next request."""
        if self._process.poll() is None:
            import signal

            self._process.send_signal(signal.SIGINT)

    def close(self, patience: float = 1.0) -> None:
        """End the child: close its stdin, then terminate, then kill."""
        process = self._process
        if process.stdin is not None:
            with suppress(OSError):  # it has gone already
                process.stdin.close()
        for signal_it in (None, process.terminate, process.kill):
            if signal_it is not None:
                signal_it()
            try:
                process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                continue

    def _collect_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors.append(line)
