"""The one exception that is meant for the person at the terminal."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can act on: one clear sentence, and what to do about it.

    `message` says what is wrong and where; `remedy` says what to do (may be empty).
    The command line prints both and exits 1; the app shows both as a notice. Neither shows
    a traceback.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


def describe_os_error(error: OSError, doing: str) -> UserError:
    """Turn an operating system's error into a sentence about the thing that we were `doing`."""
    where = f" {error.filename}" if error.filename else ""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    remedies = {
        2: "Check the path.",
        13: "Check the permissions.",
        28: "Free some disk space, or point TUNEDECK_HOME to another disk.",
        30: "The file system is read-only; point TUNEDECK_HOME to another disk.",
        122: "Your disk quota is used up; free some space.",
    }
    return UserError(f"Cannot {doing}{where}: {reason}.", remedies.get(error.errno or 0, ""))
