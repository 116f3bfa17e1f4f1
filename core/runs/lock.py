"""The lock that a living worker holds: the one test of whether a run is alive.

`lockf` locks belong to the process, not to the open file: they end with it, whatever killed it,
and children do not inherit them. The holder must not open the lock file a second time (closing
that second descriptor would drop the lock).
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

LOCKED = 3
"""The exit code of a process that found the lock taken."""


class RunLock:
    """An exclusive lock, held from `acquire` until the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, patience: float = 2.0) -> bool:
        """Take the lock; False if another process still holds it after `patience` seconds.

        Watchers test with a shared lock for an instant, so the first try may fail.
        """
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._sign()
                return True
            except OSError:
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.02)

    def release(self) -> None:
        """Give the lock back before the process ends."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _sign(self) -> None:
        """Leave our pid in the file. A full disk must not cost us the lock."""
        assert self._descriptor is not None
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)


def holder(path: Path) -> int | None:
    """The pid of the process that holds the lock; None when nobody does."""
    if not is_locked(path):
        return None
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock. Never true for a lock of this very process."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)
