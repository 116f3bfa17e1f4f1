"""Launch, stop, resume, list and remove runs. No process owns a run: all it needs is its folder."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Literal

from core.children import command
from core.errors import UserError, describe_os_error
from core.paths import runs_root
from core.runs import queue
from core.runs.directory import RunDirectory, create_run, run_ids
from core.runs.events import EventWriter
from core.runs.lock import LOCKED, RunLock, holder, holder_anywhere, is_locked
from core.runs.nodes import Node, write_node
from core.runs.state import RunState, current_state, stored_state, write_state
from core.runs.tail import tail_lines

if TYPE_CHECKING:
    from core.recipe import Recipe

Intent = Literal["stop", "checkpoint", "evaluate", "sample"]
START_PATIENCE_SECONDS = 30.0
KILL_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One line of the list of runs."""

    run: RunDirectory
    state: RunState

    @property
    def id(self) -> str:
        return self.run.id


def list_runs() -> list[RunSummary]:
    """All runs, newest first, with their liveness checked."""
    runs = (RunDirectory(runs_root() / name) for name in run_ids())
    return [RunSummary(run, current_state(run)) for run in runs]


def launch(recipe: Recipe, *, queued: bool = False, node: Node | None = None) -> RunDirectory:
    """Start a run and return as soon as its keeper lives. It outlives the caller.

    With `queued` it begins when the runs that live now, and those queued before it, have ended.
    `node` says which machine of several this is.
    A launch that fails leaves no directory behind.
    """
    run = create_run(recipe)
    try:
        write_state(run, RunState())
        if node is not None:
            write_node(run, node)
        if queued:
            queue.enter(run)
        _start_keeper(run)
    except OSError as error:
        shutil.rmtree(run.path, ignore_errors=True)
        raise describe_os_error(error, "write to the run directory") from error
    except UserError:
        shutil.rmtree(run.path, ignore_errors=True)
        raise
    return run


def resume(run: RunDirectory) -> None:
    """Go on from the last complete checkpoint. UserError when it runs or has finished.

    Of two that try at once, one wins; the lock decides.
    """
    state = current_state(run)
    if state.alive:
        raise UserError(f"{run.id} is running.", "`tunedeck attach` shows it.")
    if state.phase == "finished":
        raise UserError(f"{run.id} has finished; there is nothing to resume.")
    try:
        run.control.mkdir(exist_ok=True)
        for intent in run.control.iterdir():
            intent.unlink(missing_ok=True)
    except OSError as error:
        raise describe_os_error(error, "write to the run directory") from error
    _start_keeper(run)


def request(run: RunDirectory, intent: Intent) -> None:
    """Leave an intent for the worker; it looks after every step."""
    if not is_locked(run.lock):
        raise UserError(f"{run.id} is not running.")
    try:
        run.control.mkdir(exist_ok=True)
        (run.control / intent).touch()
    except OSError as error:
        raise describe_os_error(error, f"ask the run to {intent}") from error


def stop(run: RunDirectory, *, now: bool = False) -> None:
    """Ask the run to write a checkpoint and end; with `now`, end it at once without one."""
    if not now:
        request(run, "stop")
        return
    keeper = holder_anywhere(run.lock)
    if keeper is None:
        raise UserError(f"{run.id} is not running.")
    if not keeper.is_here:
        raise UserError(
            f"{run.id} runs on another machine ({keeper.host.split()[0]}).",
            "`tunedeck stop` without --now reaches it through the volume.",
        )
    try:
        os.killpg(keeper.pid, signal.SIGKILL)  # a keeper leads the group of its stages
    except ProcessLookupError:
        pass  # it ended just now
    except PermissionError as error:
        raise UserError(f"{run.id} belongs to another user.") from error
    _note_killed(run)


def remove(run: RunDirectory) -> None:
    """Delete the run's folder, but never that of a living run."""
    lock = RunLock(run.lock)
    try:
        if not lock.acquire(patience=0.2):
            raise UserError(f"{run.id} is running.", "Stop it first.")
        shutil.rmtree(run.path)
    except FileNotFoundError as error:
        raise UserError(f"{run.id} is gone already.") from error
    except OSError as error:
        raise describe_os_error(error, "delete") from error
    finally:
        lock.release()


def _note_killed(run: RunDirectory) -> None:
    """Write the end that the killed keeper could not. Whoever resumes first has precedence."""
    lock = RunLock(run.lock)
    try:
        if not lock.acquire(KILL_PATIENCE_SECONDS):
            raise UserError(f"{run.id} could not be ended.", "Try again, or kill it by hand.")
        state = stored_state(run)
        if state.alive:
            with suppress(OSError):  # a full disk: readers see from the free lock that it died
                EventWriter(run.events).write("done", phase="stopped", exit_code=-signal.SIGKILL)
                write_state(
                    run, replace(state, phase="stopped", stage="", pid=None, finished=time.time())
                )
    except OSError as error:
        raise describe_os_error(error, "write to the run directory") from error
    finally:
        lock.release()


def _start_keeper(run: RunDirectory) -> None:
    """Start the keeper in a session of its own, its output in a file, and wait till it lives."""
    try:
        with run.log.open("ab") as log:
            keeper = subprocess.Popen(
                command("core.runs.keeper", str(run.path)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path.home() if Path.home().is_dir() else "/",
                start_new_session=True,
            )
    except OSError as error:
        raise describe_os_error(error, "start the worker") from error
    Thread(target=keeper.wait, daemon=True).start()  # else it would stay a zombie of ours
    deadline = time.monotonic() + START_PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if keeper.returncode is not None:
            _check_start(run, keeper.returncode)
            return
        if holder(run.lock) == keeper.pid and stored_state(run).alive:
            return
        time.sleep(0.02)
    keeper.kill()
    raise UserError(f"The worker of {run.id} did not start within 30 s.", "Try again.")


def _check_start(run: RunDirectory, code: int) -> None:
    """A keeper that has ended already: fine if the run is over, else say why it could not."""
    if code == LOCKED:
        raise UserError(f"{run.id} is running.", "`tunedeck attach` shows it.")
    if stored_state(run).alive:
        last = next((line for line in reversed(tail_lines(run.log)) if line.strip()), "")
        raise UserError(f"The worker of {run.id} could not start. {last}".strip())
