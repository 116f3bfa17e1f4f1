"""When two rows are the same, and when they ask the same."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from orjson import OPT_SORT_KEYS, dumps

from core.data.examples import Conversation, Example, Judged, Message, Preference, Text


def fingerprints(example: Example) -> tuple[int, int]:
    """Two numbers for a row: equal for rows that say the same, whatever file and format they
    come from; and equal for rows that ask the same (0 for plain text)."""
    asked, rest = _parts(example)
    digest = blake2b(dumps(asked, default=str, option=OPT_SORT_KEYS), digest_size=8)
    prompt = int.from_bytes(digest.digest(), "big") if asked else 0
    digest.update(dumps(rest, default=str, option=OPT_SORT_KEYS))
    return int.from_bytes(digest.digest(), "big"), prompt


def row_hash(example: Example) -> int:
    return fingerprints(example)[0]


def _parts(example: Example) -> tuple[list[object], list[object]]:
    """What is asked, and the rest of the row."""
    match example:
        case Conversation(messages, tools):
            last = len(messages) - 1
            while last > 0 and messages[last]["role"] != "assistant":
                last -= 1
            return _turns(messages[:last]), [*_turns(messages[last:]), *tools]
        case Text(text):
            return [], [text]
        case Preference(prompt, chosen, rejected):
            return _turns(prompt), [_turns(chosen), _turns(rejected)]
        case Judged(prompt, completion, label):
            return _turns(prompt), [*_turns(completion), label]


def roles_of(example: Example) -> str:
    """The roles of a row's turns, a letter each (the better answer of a pair); none for text."""
    turns: Sequence[Message]
    match example:
        case Conversation(messages):
            turns = messages
        case Text():
            return ""
        case Preference(prompt, chosen):
            turns = (*prompt, *chosen)
        case Judged(prompt, completion):
            turns = (*prompt, *completion)
    return "".join([message["role"][0] for message in turns])


def answer_of(example: Example) -> str:
    """The text that the row teaches to say: its last answer."""
    match example:
        case Conversation(messages):
            if messages[-1]["role"] == "assistant":
                return str(messages[-1]["content"])
            answers = [m for m in messages if m["role"] == "assistant"]
        case Text(text):
            return text
        case Preference():
            answers = list(example.chosen)
        case Judged():
            answers = list(example.completion)
    return str(answers[-1]["content"]) if answers else ""


def _turns(messages: Sequence[Message]) -> list[object]:
    turns: list[object] = []
    for message in messages:
        turns += message["role"], message["content"]
        if "tool_calls" in message:
            turns.append(message["tool_calls"])
    return turns
