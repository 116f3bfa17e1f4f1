"""Transcripts: every chat is kept beside its run, written after every turn.

A transcript is a file of JSON lines: a header, then a line a message. In a comparison both
answers are kept, each with `who`, so that each model can go on with its own history.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.chat.events import Turn, Who
from core.data.examples import Message
from core.errors import describe_os_error
from core.runs.events import parse_lines

VERSION = 1


@dataclass(frozen=True, slots=True)
class TranscriptSummary:
    """A line in the list of transcripts; `first` is the beginning of the first question."""

    path: Path
    created: float
    questions: int
    first: str


@dataclass(slots=True)
class Transcript:
    """One chat. `lines` are the messages as they lie in the file, oldest first."""

    path: Path
    created: float
    system: str | None = None
    lines: list[dict[str, Any]] = field(default_factory=list)

    def ask(self, question: str) -> None:
        """Add the person's turn. It reaches the disk at once, like every turn."""
        self._append({"kind": "message", "role": "user", "content": question})

    def answer(self, turn: Turn) -> None:
        """Add a model's turn, with how it ended and how fast it was."""
        self._append(
            {
                "kind": "message",
                "role": "assistant",
                "who": turn.who,
                "content": turn.text,
                "ended": turn.ended,
                "tokens": turn.tokens,
                "seconds": round(turn.seconds, 3),
            }
        )

    def messages(self, who: Who = "tuned") -> list[Message]:
        """The conversation as `who` knows it: its own answers, each with the person's turn before
        it, and the last turn. Templates want the two to alternate, so what it never answered (the
        other model was asked alone, or something failed) is left out."""
        known: list[Message] = []
        question: Message | None = None
        for line in self.lines:
            message: Message = {"role": line["role"], "content": line["content"]}
            if line["role"] == "user":
                question = message
            elif line.get("who", "tuned") == who and question is not None and line["content"]:
                known += [question, message]
                question = None
        return [*known, question] if question is not None else known

    def _append(self, line: dict[str, Any]) -> None:
        """The file is made with the first turn, so that a chat of none leaves nothing. Where it
        cannot be written the chat still knows the turn."""
        line = {"v": VERSION, "t": round(time.time(), 3), **line}
        self.lines.append(line)
        try:
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _write(self.path, self._header())
            _write(self.path, line)
        except OSError as error:
            raise describe_os_error(error, "save the transcript") from error

    def _header(self) -> dict[str, Any]:
        return {"v": VERSION, "t": self.created, "kind": "transcript", "system": self.system}


def new_transcript(folder: Path, system: str | None = None) -> Transcript:
    """A transcript that will lie in `folder` (a run's chat/) once something has been said."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = folder / f"{stamp}-{secrets.token_hex(2)}.jsonl"
    return Transcript(path, round(time.time(), 3), system)


def load_transcript(path: Path) -> Transcript:
    """A transcript to read or to continue. A torn last line is left out, and mended."""
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")
    except OSError as error:
        raise describe_os_error(error, "read the transcript") from error
    events = parse_lines(content)
    header = next((event for event in events if event["kind"] == "transcript"), {})
    lines = [event for event in events if event["kind"] == "message" and "role" in event]
    return Transcript(path, header.get("t", 0.0), header.get("system"), lines)


def list_transcripts(folder: Path) -> list[TranscriptSummary]:
    """The transcripts in `folder`, newest first."""
    found = []
    for path in sorted(folder.glob("*.jsonl"), reverse=True):
        transcript = load_transcript(path)
        questions = [line["content"] for line in transcript.lines if line["role"] == "user"]
        first = questions[0][:200] if questions else ""
        found.append(TranscriptSummary(path, transcript.created, len(questions), first))
    return found


def _write(path: Path, line: dict[str, Any]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(
            descriptor, (json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        )
    finally:
        os.close(descriptor)
