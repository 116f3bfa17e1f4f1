"""The lock that a living worker holds: the one test of whether a run is alive.

`lockf` locks belong to the process, not to the open file: they end with it, whatever killed it,
and children do not inherit them. The holder must not open the lock file a second time (closing
that second descriptor would drop the lock).

On a volume that several machines mount (NFS), the lock counts on all of them. That of a machine
that was taken away is let go by the file server, a minute or two later.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from core.errors import UserError

LOCKED = 3
"""The exit code of a process that found the lock taken."""
_TAKEN = (errno.EAGAIN, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock: a process of the machine that is called `host`."""

    pid: int
    host: str

    @property
    def is_here(self) -> bool:
        return self.host in ("", this_host())


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
            except OSError as error:
                _check_knows_locks(error, self._path)
                if time.monotonic() >= deadline:
                    return False
                time.sleep(0.02)

    def release(self) -> None:
        """Give the lock back before the process ends."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _sign(self) -> None:
        """Leave our pid and machine in the file. A full disk must not cost us the lock."""
        assert self._descriptor is not None
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()} {this_host()}".encode(), 0)


def holder(path: Path) -> int | None:
    """The pid of the process of this machine that holds the lock; None when there is none."""
    found = holder_anywhere(path)
    return found.pid if found is not None and found.is_here else None


def holder_anywhere(path: Path) -> Holder | None:
    """Who holds the lock, on whatever machine; None when nobody does."""
    if not is_locked(path):
        return None
    try:
        pid, _, host = path.read_text(encoding="utf-8").partition(" ")
        return Holder(int(pid), host)
    except (OSError, ValueError):
        return None


@cache
def this_host() -> str:
    """This machine's name, and which of its lives this is: a new one may have the old name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        boot = ""
    return f"{platform.node()} {boot}".strip()


def is_locked(path: Path) -> bool:
    """Whether a living process holds the lock. Never true for a lock of this very process."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as error:
        return error.errno in _TAKEN
    finally:
        os.close(descriptor)


def _check_knows_locks(error: OSError, path: Path) -> None:
    if error.errno not in _TAKEN:
        raise UserError(
            f"The disk of {path.parent} cannot lock files ({os.strerror(error.errno or 0)}).",
            "Set TUNEDECK_HOME to another disk, or mount that one with locks.",
        ) from error
