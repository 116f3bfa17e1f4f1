"""A stage ends when its keeper does, whatever ended the keeper."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from threading import Thread

KEEPER_PID = "TUNEDECK_KEEPER_PID"
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent() -> None:
    """Between fork and exec of a stage: ask Linux to kill it when its parent is gone."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def watch_keeper() -> None:
    """In a stage: make sure the keeper lives, and where Linux does not watch, watch ourselves."""
    keeper = int(os.environ.get(KEEPER_PID, "0"))
    if not keeper:
        return
    if os.getppid() != keeper:
        os._exit(1)  # it died before the stage had started
    if sys.platform != "linux":
        Thread(target=_watch, args=(keeper,), daemon=True).start()


def end_with_launcher() -> None:
    """In a process that was started without our help: end when the one that started it does."""
    parent = os.getppid()
    end_with_parent()
    if parent == 1 or os.getppid() != parent:
        os._exit(1)
    if sys.platform != "linux":
        Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(keeper: int) -> None:
    while os.getppid() == keeper:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
