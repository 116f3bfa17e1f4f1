"""What encoding makes of a row: plain values, free of the libraries that make them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

IGNORED = -100
"""The label of a token that the loss does not see (torch's `ignore_index`)."""

SpanKind = Literal["trained", "context", "special", "truncated"]


@dataclass(frozen=True, slots=True)
class Span:
    """A token as it is shown: its text (empty inside a split character) and what happens to it."""

    text: str
    kind: SpanKind
    token: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """One training sequence. `input_ids` and `labels` have the same length, at most max_length.

    `trained` counts the labels that are not `IGNORED`. `stop` is False where the last trained
    token is not one that generation stops at. `cut` counts the tokens beyond max_length.
    `notes` say in words why a turn is not trained.
    """

    input_ids: list[int]
    labels: list[int]
    trained: int
    stop: bool
    cut: int
    notes: tuple[str, ...] = ()
