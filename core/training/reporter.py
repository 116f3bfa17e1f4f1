"""What a stage tells the world: events, and `state.json`."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import Any

from core.errors import describe_os_error
from core.runs.directory import RunDirectory
from core.runs.events import EventWriter
from core.runs.state import Exit, Phase, stored_state, write_state

STATE_SECONDS = 0.5
PROGRESS_SECONDS = 0.25


class Reporter:
    """Writes events and state for one stage of a run.

    A full disk must not end a training that could go on: what cannot be written is said once
    in the log and lost.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._events = EventWriter(run.events)
        self._state = replace(stored_state(run), phase="running", pid=os.getpid(), exit=None)
        self._state_written = 0.0
        self._progress_told = 0.0
        self._disk_trouble = False

    def stage(self, name: str, **fields: Any) -> None:
        """A new stage begins; `fields` go into the event and, where it has them, the state."""
        known = {key: fields[key] for key in fields if key in self._state.__dataclass_fields__}
        self._state = replace(self._state, stage=name, **known)
        self.write_state()
        self.tell("state", phase=self._state.phase, stage=name, **fields)

    def phase(self, phase: Phase) -> None:
        """Only the phase changes: a run that is asked to stop is `stopping` until it has."""
        self._state = replace(self._state, phase=phase)
        self.write_state()
        self.tell("state", phase=phase, stage=self._state.stage)

    def progress(self, text: str, done: float, total: float | None, unit: str = "bytes") -> None:
        """A long job inside the stage; at most four events a second, and always its end."""
        now = time.monotonic()
        if now - self._progress_told < PROGRESS_SECONDS and done != total:
            return
        self._progress_told = now
        self.tell("progress", stage=self._state.stage, done=done, total=total, unit=unit, text=text)

    def update(self, **fields: Any) -> None:
        """New values for the state file, which is written at most twice a second."""
        self._state = replace(self._state, **fields)
        if time.monotonic() - self._state_written >= STATE_SECONDS:
            self.write_state()

    def write_state(self) -> None:
        self._state_written = time.monotonic()
        try:
            write_state(self._run, self._state)
        except OSError as error:
            self._complain(error)

    def warn(self, code: str, message: str, remedy: str = "") -> None:
        self.tell("warning", code=code, message=message, remedy=remedy)

    def fail(self, reason: Exit) -> None:
        self.tell("error", code=reason.code, message=reason.message, remedy=reason.remedy)

    def tell(self, kind: str, **fields: Any) -> None:
        """Append one event."""
        try:
            self._events.write(kind, **fields)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        if not self._disk_trouble:
            self._disk_trouble = True
            print(describe_os_error(error, "write to the run directory"), file=sys.stderr)


class Silence(Reporter):
    """For processes beside the one that reports: what they would tell is told already."""

    def write_state(self) -> None:
        pass

    def tell(self, kind: str, **fields: Any) -> None:
        pass
