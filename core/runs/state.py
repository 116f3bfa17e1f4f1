"""`state.json`: where a run stands, small enough to read for every run in the list."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from core.runs.directory import RunDirectory, write_atomically
from core.runs.lock import is_locked

Phase = Literal["preparing", "running", "stopping", "stopped", "finished", "failed"]
ALIVE: tuple[Phase, ...] = ("preparing", "running", "stopping")
# A launcher writes the state before the worker has taken its lock.
LAUNCH_GRACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Exit:
    """Why a run ended otherwise than well: one sentence, and what to do."""

    code: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class RunState:
    """What is known of a run at one moment. Times are unix seconds, loss is in nats a token."""

    phase: Phase = "preparing"
    stage: str = ""
    pid: int | None = None
    step: int = 0
    total_steps: int | None = None
    loss: float | None = None
    eval_loss: float | None = None
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)
    finished: float | None = None
    exit: Exit | None = None

    @property
    def alive(self) -> bool:
        return self.phase in ALIVE


def write_state(run: RunDirectory, state: RunState) -> RunState:
    """Write the state atomically, stamped with the present time."""
    stamped = replace(state, updated=time.time())
    write_atomically(run.state, json.dumps(asdict(stamped), indent=1))
    return stamped


def stored_state(run: RunDirectory) -> RunState:
    """The state as the worker last wrote it, true or not. A missing file is a fresh state."""
    try:
        tree: dict[str, Any] = json.loads(run.state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        created = _created(run)
        return RunState(created=created, updated=created)
    known = {key: tree[key] for key in RunState.__dataclass_fields__ if key in tree}
    if isinstance(known.get("exit"), dict):
        known["exit"] = Exit(**known["exit"])
    return RunState(**known)


def current_state(run: RunDirectory) -> RunState:
    """The state with liveness checked: a run that claims to live but holds no lock has died."""
    state = stored_state(run)
    if not state.alive or is_locked(run.lock):
        return state
    if state.phase == "preparing" and time.time() - state.updated < LAUNCH_GRACE_SECONDS:
        return state
    state = stored_state(run)  # it may have ended between the two looks
    if not state.alive:
        return state
    from core.runs.diagnosis import vanished

    return replace(state, phase="failed", exit=vanished(run))


def _created(run: RunDirectory) -> float:
    try:
        return os.stat(run.recipe).st_mtime
    except OSError:
        return 0.0
