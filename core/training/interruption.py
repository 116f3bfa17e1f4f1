"""Being asked to end: a signal becomes an exception that no library catches by mistake."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupted(BaseException):
    """SIGTERM or SIGINT came. What has been written whole stays; the rest is done again."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)  # a second signal must not disturb the tidying up
    raise Interrupted


def raise_when_asked_to_end() -> None:
    """From now on SIGTERM and SIGINT raise `Interrupted` in the main thread."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _interrupt)
