"""What an answer is worth beside its reference. Plain text in, plain numbers out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """A generated answer beside its reference. `number` is the row's number in its source."""

    number: int
    prompt: str
    reference: str
    answer: str
    exact: bool
    ended: str


def exact(answer: str, reference: str) -> bool:
    """Equal but for white space around: nothing inside is forgiven."""
    return answer.strip() == reference.strip()


def exact_match(answers: Sequence[Answer]) -> float | None:
    """The share of exact answers; None without answers."""
    return sum(each.exact for each in answers) / len(answers) if answers else None


def json_valid(answers: Sequence[Answer]) -> float | None:
    """The share of answers that are JSON, where all references are JSON objects or lists."""
    if not answers or not all(_is_json(each.reference) for each in answers):
        return None
    return sum(_is_json(each.answer) for each in answers) / len(answers)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False
