"""What a chat client tells its screen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Who = Literal["tuned", "base"]
"""Which model speaks. A chat with one model only is always "tuned"."""

Ended = Literal["stop", "length", "stopped"]
"""The model ended its answer itself, it reached max_new_tokens, or the person stopped it."""


@dataclass(frozen=True, slots=True)
class Loading:
    """How far loading has come. The last one has stage "ready", with device and context.

    Stages: importing, downloading (`done` of `total` bytes), loading, ready. `seconds` count
    from the start of the worker.
    """

    stage: str
    seconds: float
    done: float = 0
    total: float | None = None
    text: str = ""
    device: str = ""
    context: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """The next part of an answer. Untrusted text: show it through `core.text.printable`."""

    who: Who
    text: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A finished answer. `tokens_per_s` leaves out the reading of the prompt."""

    who: Who
    text: str
    ended: Ended
    tokens: int
    seconds: float
    tokens_per_s: float
    first_token_seconds: float
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the person should know about this turn: old turns were dropped, say."""

    code: str
    message: str


ChatEvent = Piece | Turn | Notice
