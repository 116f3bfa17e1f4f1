"""The keeper of a run: a small process that outlives app and terminal and sees the run through.

It holds the lock for the whole life of the run, runs the stages one after another as fresh
processes, samples the machine once a second, passes signals on, and has the last word: how the
run ended and why. It never imports torch.

    python -P -m core.runs.keeper RUN_DIRECTORY [STAGE_MODULE ...]
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from core.children import CONSIDERATE, command
from core.errors import UserError, describe_os_error
from core.hardware.machine import Machine
from core.hardware.readings import read_machine
from core.runs import queue
from core.runs.diagnosis import classify, oom_kills
from core.runs.directory import RunDirectory
from core.runs.events import EventWriter
from core.runs.lifeline import KEEPER_PID, end_with_parent
from core.runs.lock import LOCKED, RunLock
from core.runs.state import Exit, Phase, stored_state, write_state
from core.runs.tail import tail_events
from core.runs.vigil import Vigil, checkpoint_bytes
from core.training.checkpoints import checkpoint_step, newest_checkpoint

STAGES = ("core.training.worker", "core.training.finish")
TICK_SECONDS = 0.1
SAMPLE_SECONDS = 1.0
QUEUE_SECONDS = 1.0
STOP_PATIENCE_SECONDS = 5.0


class Keeper:
    """One life of one run, from the first stage to the `done` event."""

    def __init__(self, run: RunDirectory, stages: tuple[str, ...]) -> None:
        self._run = run
        self._stages = stages
        self._events = EventWriter(run.events)
        self._signalled = False
        self._stopping_since: float | None = None
        self._killed = False
        self._sampled = 0.0
        self._disk_trouble = False
        self._vigil = Vigil()

    def keep(self) -> int:
        """Run all stages. 0 when the run finished or was stopped, 1 when it failed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)
        self._go_back_to_the_checkpoint()
        self._set_phase("preparing")
        self._await_turn()
        for module in self._stages:
            if self._stop_asked():
                return self._end("stopped")
            began, kills = time.time() - 0.001, oom_kills()
            code = self._run_stage(module)
            if code == 0 and stored_state(self._run).phase != "stopping":
                continue
            if code == 0 or self._ended_on_request(code):
                return self._end("stopped")
            reason = classify(self._run, code, began, out_of_memory=oom_kills() > kills)
            return self._end("failed", reason, code)
        return self._end("finished")

    def _go_back_to_the_checkpoint(self) -> None:
        """Steps that an earlier life took after its last checkpoint are lost: a run that is
        stopped before it trains again must not claim them."""
        state, newest = stored_state(self._run), newest_checkpoint(self._run)
        step = checkpoint_step(newest) if newest else 0
        if state.step > step and not _trained(self._run):
            with suppress(OSError):  # the next write says so
                write_state(self._run, replace(state, step=step))

    def _await_turn(self) -> None:
        """In the queue: until the runs before have ended, or somebody stops this one."""
        while queue.is_queued(self._run) and not self._stop_asked():
            before = queue.runs_before(self._run)
            if not before:
                break
            if stored_state(self._run).stage != queue.STAGE:
                self._set_phase("preparing", stage=queue.STAGE)
            time.sleep(QUEUE_SECONDS)
        queue.leave(self._run)

    def _ended_on_request(self, code: int) -> bool:
        if self._stopping_since is None:
            return False
        return code in (-signal.SIGTERM, 128 + signal.SIGTERM) or self._killed

    def _run_stage(self, module: str) -> int:
        """Run one stage to its end and return its exit code (negative: a signal)."""
        try:
            stage = subprocess.Popen(
                command(module, str(self._run.path)),
                stdin=subprocess.DEVNULL,
                env=_stage_environment(),
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
        except OSError as error:
            print(describe_os_error(error, f"start {module}"), file=sys.stderr, flush=True)
            return 1
        while (code := stage.poll()) is None:
            self._sample()
            self._pass_stop_on(stage)
            time.sleep(TICK_SECONDS)
        return code

    def _note_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def _stop_asked(self) -> bool:
        return self._signalled or (self._run.control / "stop").exists()

    def _pass_stop_on(self, stage: subprocess.Popen[bytes]) -> None:
        """Tell the stage to end. One that trains writes a checkpoint; any other gets 5 seconds."""
        if not self._stop_asked():
            return
        now = time.monotonic()
        if self._stopping_since is None:
            self._stopping_since = now
            stage.terminate()
        elif now - self._stopping_since > STOP_PATIENCE_SECONDS and not self._training():
            self._killed = True
            stage.kill()

    def _training(self) -> bool:
        return stored_state(self._run).stage == "training"

    def _sample(self) -> None:
        now = time.monotonic()
        if now - self._sampled < SAMPLE_SECONDS:
            return
        self._sampled = now
        machine = read_machine()
        self._warn(machine, now)
        line = json.dumps(machine.as_sample()) + "\n"
        try:
            with self._run.gpu.open("ab") as file:
                file.write(line.encode())
        except OSError as error:
            self._complain(error)

    def _warn(self, machine: Machine, now: float) -> None:
        """What the stage cannot notice, or not in time."""
        size = checkpoint_bytes(self._run.checkpoints)
        found = self._vigil.progress(stored_state(self._run), now)
        for finding in (*found, *self._vigil.machine(machine, size)):
            self._tell("warning", code=finding.code, message=finding.message, remedy=finding.remedy)

    def _set_phase(self, phase: Phase, exit_: Exit | None = None, stage: str = "") -> None:
        """State file and event. The state keeps the step and losses of an earlier life."""
        over = phase in ("finished", "stopped", "failed")
        state = replace(
            stored_state(self._run),
            phase=phase,
            stage=stage,
            pid=None if over else os.getpid(),
            finished=time.time() if over else None,
            exit=exit_,
        )
        try:
            write_state(self._run, state)
        except OSError as error:
            self._complain(error)
        if not over:
            self._tell("state", phase=phase, stage=stage)

    def _end(self, phase: Phase, exit_: Exit | None = None, code: int = 0) -> int:
        """The last word. The event goes first: a reader of the state may stop reading events."""
        if exit_ is not None and not self._already_told(exit_):
            self._tell("error", code=exit_.code, message=exit_.message, remedy=exit_.remedy)
        self._tell("done", phase=phase, exit_code=code)
        self._set_phase(phase, exit_)
        return 0 if phase in ("finished", "stopped") else 1

    def _already_told(self, exit_: Exit) -> bool:
        last = [event for event in tail_events(self._run.events) if event["kind"] == "error"]
        return bool(last) and last[-1].get("message") == exit_.message

    def _tell(self, kind: str, **fields: Any) -> None:
        try:
            self._events.write(kind, **fields)
        except OSError as error:
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        """Say once that the run directory cannot be written; training itself may go on."""
        if not self._disk_trouble:
            self._disk_trouble = True
            print(describe_os_error(error, "write to the run directory"), file=sys.stderr)


def _trained(run: RunDirectory) -> bool:
    return run.adapter.is_dir() or run.merged.is_dir()


def _stage_environment() -> dict[str, str]:
    """Ours, and threads that wait asleep: spinning ones make a shared CPU many times slower."""
    return {**CONSIDERATE, **os.environ, KEEPER_PID: str(os.getpid())}


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run = RunDirectory(Path(arguments[0]))
    lock = RunLock(run.lock)
    try:
        if not lock.acquire():
            print(f"{run.id} is already being worked on by another process.", file=sys.stderr)
            return LOCKED
        return Keeper(run, tuple(arguments[1:]) or STAGES).keep()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(describe_os_error(error, "work in the run directory"), file=sys.stderr)
        return 1
    finally:
        lock.release()  # whoever resumes the run now need not wait until this process is gone


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
