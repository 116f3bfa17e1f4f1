"""What a row is once it has been recognised and normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

FormatName = Literal[
    "messages", "sharegpt", "alpaca", "prompt-completion", "text", "preference", "kto", "unknown"
]
Message = dict[str, Any]
"""`role`, `content`, and where the row has them `tool_calls`, `tool_call_id`, `name`."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns of a chat; `tools` are the JSON schemas that the template may show."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text, trained on whole."""

    text: str


@dataclass(frozen=True, slots=True)
class Preference:
    """A prompt with a better and a worse answer, each a list of messages."""

    prompt: tuple[Message, ...]
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A prompt and an answer that somebody found desirable or not (KTO)."""

    prompt: tuple[Message, ...]
    completion: tuple[Message, ...]
    label: bool


Example = Conversation | Text | Preference | Judged


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it lies in the source.

    `number` counts records from 1 (for JSONL: the line number). `value` is the parsed object, or
    None when it could not be read; then `problem` is the code and `detail` the reason.
    """

    number: int
    value: Any
    problem: str | None = None
    detail: str = ""
    source: str = ""
