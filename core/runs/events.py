"""The event stream of a run: an append-only file of JSON lines.

The worker's processes write it one after another, and the keeper a warning in between; any number
of readers follow it. Every event has `v` (schema version), `t` (unix seconds) and `kind`:

========== ======================================================================================
state      phase, stage: what the run is doing now
progress   stage, done, total, unit ("bytes", "rows", "tokens"), text: a long job inside a stage
rows       rows (of the source), train, held_out, left_out (beyond max_rows), eval_source (files or
           splits that the held-out rows are from; empty: a part of the source), train_tokens,
           trained_tokens
choices    choices ({name, value, why}): what the worker chose for this model and machine
probe      step, rows, tokens (of the longest), seconds, peak_bytes: the step before the first
log        step, epoch, loss, lr, grad_norm, tokens (so far), tokens_per_s, step_seconds; for
           preferences also rewards_chosen, rewards_rejected, margin, accuracy, kl
eval       step, epoch, loss, rows, perplexity; for preferences the same as log instead of that
sample     step, prompt, text: what the model writes for a fixed held-out prompt
checkpoint step, path
choice     step (whose weights are the result), last_step, last_loss, best_step, best_loss, noise
measured   device, method, stack, shape, micro_batch, peaks: what the next plan learns from
merge      adapted, changed (layers), difference, tolerance: the proof of a merge
memory     ram_peak, vram_peak (NVML, the process), vram_reserved, vram_allocated: bytes, a stage
trial      what a trial measured, and what the real run will take (`core.runs.trial`)
result     model ("base", "tuned"), loss, perplexity, exact_match, rows, …: the final evaluation
warning    code, message, remedy
error      code, message, remedy
done       phase ("finished", "stopped", "failed"), exit_code
========== ======================================================================================

A reader skips what it does not know and survives a torn last line. NaN is written as NaN.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from core.secrets import without_secrets

VERSION = 1
Event = dict[str, Any]


class EventWriter:
    """Appends events; each is one `write` of a whole line, so readers never see two mixed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mend_torn_end()

    def write(self, kind: str, **fields: Any) -> Event:
        """Append one event and return it."""
        event: Event = {"v": VERSION, "t": round(time.time(), 3), "kind": kind, **fields}
        line = without_secrets(json.dumps(event, ensure_ascii=False, default=str)) + "\n"
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode("utf-8", "replace"))
        finally:
            os.close(descriptor)
        return event

    def _mend_torn_end(self) -> None:
        """End a line that a killed writer left unfinished, lest ours be glued to it."""
        try:
            with self._path.open("rb+") as file:
                if file.seek(0, os.SEEK_END) == 0:
                    return
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
        except FileNotFoundError:
            return


class EventReader:
    """Follows a file of JSON lines: each `read` returns what has come since the last.

    At most `budget` bytes are read at a time, so that attaching to a long run never freezes the
    reader; `behind` says whether more lies ready, `share_read` how much of the file has been read.
    """

    def __init__(self, path: Path, budget: int = 4 * 1024 * 1024) -> None:
        self._path = path
        self._budget = budget
        self._offset = 0
        self._identity: int | None = None
        self.behind = False
        self.share_read = 0.0

    def read(self) -> list[Event]:
        """The events since the last call. A torn last line waits for its rest."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._identity or status.st_size < self._offset:
                    self._identity, self._offset = status.st_ino, 0
                file.seek(self._offset)
                chunk = file.read(self._budget)
        except FileNotFoundError:
            self.behind = False
            return []
        whole = chunk.rfind(b"\n") + 1
        self.behind = len(chunk) == self._budget
        if whole == 0 and self.behind:
            whole = len(chunk)  # one line longer than the budget: not ours, step over it
        self._offset += whole
        self.share_read = self._offset / max(1, status.st_size)
        return parse_lines(chunk[:whole])


def parse_lines(chunk: bytes) -> list[Event]:
    """The events in whole lines; lines that are not JSON objects are skipped."""
    lines = chunk.decode("utf-8", "replace").split("\n")
    lines = [line for line in lines if line and not line.isspace()]
    try:
        events = json.loads("[" + ",".join(lines) + "]")  # one call is several times faster
    except ValueError:
        events = [event for line in lines if (event := _parse(line)) is not None]
    return [event for event in events if isinstance(event, dict) and "kind" in event]


def _parse(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None
