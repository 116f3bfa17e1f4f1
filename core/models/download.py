"""Hub downloads as the caller sees them: bytes as they come, and an end to waiting.

The work is done by `core.models.fetch` in a child process, which can be ended when the hub hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from core.children import Child, Message
from core.errors import UserError

Progress = Callable[[str, int, int | None], None]
"""Told (what is done now, bytes done, bytes in all or None)."""

ANSWER_SECONDS = 20.0
STALL_SECONDS = 60.0


class HubUnavailable(UserError):
    """The hub did not answer, or stopped answering: another source may do instead."""


def silent(stage: str, done: int, total: int | None) -> None:
    """The progress callback of those who do not care."""


def download(
    model_id: str,
    revision: str | None,
    progress: Progress,
    *,
    weights: bool = True,
    answer_seconds: float = ANSWER_SECONDS,
    stall_seconds: float = STALL_SECONDS,
) -> Path:
    """Fetch a model into the Hugging Face cache and return its folder there.

    `answer_seconds` is how long the hub may take to say what there is, `stall_seconds` how long
    no byte may come. A transfer that stalls over xet is tried once more over plain HTTP.
    """
    patience = (answer_seconds, stall_seconds)
    try:
        return _attempt(model_id, revision, progress, weights, patience, {})
    except _Stalled as stall:
        if not stall.began:
            raise
    return _attempt(model_id, revision, progress, weights, patience, {"HF_HUB_DISABLE_XET": "1"})


class _Stalled(HubUnavailable):
    began = False


def _attempt(
    model_id: str,
    revision: str | None,
    progress: Progress,
    weights: bool,
    patience: tuple[float, float],
    environment: dict[str, str],
) -> Path:
    child = Child(
        "core.models.fetch",
        model_id,
        revision or "",
        "all" if weights else "tokenizer",
        environment={"HF_HUB_DISABLE_TELEMETRY": "1", **environment},
    )
    total: int | None = None
    with closing(child):
        for message in _messages(child, model_id, patience):
            if message["kind"] == "listing":
                total = message["total"]
                progress(f"downloading {model_id}", 0, total)
            elif message["kind"] == "bytes":
                progress(f"downloading {model_id}", message["done"], total)
            elif message["kind"] == "error":
                raise _error(message)
            elif message["kind"] == "done":
                return Path(message["path"])
    raise UserError(f"The download of {model_id} ended early: {_last_line(child)}.", "Try again.")


def _messages(child: Child, model_id: str, patience: tuple[float, float]) -> Iterator[Message]:
    """The child's messages; raises when none comes for too long."""
    answer_seconds, stall_seconds = patience
    messages: Queue[Message | None] = Queue()
    Thread(target=_pump, args=(child, messages), daemon=True).start()
    deadline, began = time.monotonic() + answer_seconds, False
    while True:
        try:
            message = messages.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            raise _stalled(model_id, began, stall_seconds if began else answer_seconds) from None
        if message is None:
            return
        began = began or message["kind"] == "listing"
        if began:
            deadline = time.monotonic() + stall_seconds
        yield message


def _pump(child: Child, messages: Queue[Message | None]) -> None:
    for message in child:
        if "kind" in message:
            messages.put(message)
    messages.put(None)


def _stalled(model_id: str, began: bool, seconds: float) -> _Stalled:
    what = f"The download of {model_id} has not moved" if began else "The hub has not answered"
    error = _Stalled(f"{what} for {seconds:.0f} s.", "Check the network and try again.")
    error.began = began
    return error


def _error(message: Message) -> UserError:
    kind = HubUnavailable if message["code"] == "unreachable" else UserError
    return kind(message["message"], message["remedy"])


def _last_line(child: Child) -> str:
    lines = child.last_errors.strip().splitlines()
    return lines[-1][:200] if lines else "no reason was given"
