"""A stage that trains, or does something else, until it is told to stop (`SLEEPS_AS`)."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from core.runs.directory import RunDirectory
from core.runs.events import EventWriter
from core.runs.state import stored_state, write_state


def main(run: RunDirectory) -> int:
    stage = os.environ.get("SLEEPS_AS", "training")
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGTERM, note)
    state = replace(stored_state(run), phase="running", stage=stage, pid=os.getpid(), step=7)
    write_state(run, state)
    EventWriter(run.events).write("state", phase="running", stage=stage)
    while not asked or stage != "training":
        time.sleep(0.02)
    write_state(run, replace(state, phase="stopping"))
    return 0


if __name__ == "__main__":
    sys.exit(main(RunDirectory(Path(sys.argv[1]))))
