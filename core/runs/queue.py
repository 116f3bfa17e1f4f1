"""The queue: a run that was put there begins when the runs before it have ended.

The place in it is a file in the run's folder, so it needs no process of its own: each waiting
keeper looks at the folders. Whoever deletes the file lets the run begin at once.
"""

from __future__ import annotations

from contextlib import suppress

from core.paths import runs_root
from core.runs.directory import RunDirectory, run_ids
from core.runs.state import current_state, stored_state

STAGE = "queued"
"""The stage of a run that waits."""


def enter(run: RunDirectory) -> None:
    """Put a run that has not begun into the queue. Raises OSError."""
    run.control.mkdir(exist_ok=True)
    (run.control / "queue").touch()


def leave(run: RunDirectory) -> None:
    """Its turn has come, or it will never come."""
    with suppress(OSError):
        (run.control / "queue").unlink()


def is_queued(run: RunDirectory) -> bool:
    return (run.control / "queue").exists()


def runs_before(run: RunDirectory) -> list[str]:
    """The ids of the runs that must end first: those at work, and those queued earlier."""
    mine = (stored_state(run).created, run.id)
    before = []
    for other in (RunDirectory(runs_root() / name) for name in run_ids()):
        if other.id == run.id:
            continue
        queued, state = is_queued(other), current_state(other)
        if state.alive and (not queued or (state.created, other.id) < mine):
            before.append(other.id)
    return before
