"""Fitting a conversation into the context of a model: the oldest turns go first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.data.examples import Message
from core.errors import UserError

# Room for an answer that is worth starting; max_new_tokens shrinks down to it, not below.
LEAST_ANSWER = 32


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits, the room left for the answer, and how many messages were dropped."""

    prompt: list[int]
    max_new_tokens: int
    dropped: int


def fit(
    messages: Sequence[Message],
    encode: Callable[[Sequence[Message]], list[int]],
    context: int | None,
    max_new_tokens: int,
) -> Fitted:
    """Drop the oldest turns, never the system message or the last turn, until it fits.

    UserError when the last turn alone is too long for the model.
    """
    kept = list(messages)
    while True:
        prompt = encode(kept)
        if context is None:
            return Fitted(prompt, max_new_tokens, 0)
        room = context - len(prompt)
        if room >= min(max_new_tokens, LEAST_ANSWER):
            return Fitted(prompt, min(max_new_tokens, room), len(messages) - len(kept))
        shorter = _without_oldest_turn(kept)
        if shorter is None:
            raise UserError(
                f"The message has {len(prompt):,} tokens; the model's context holds {context:,}.",
                "Shorten it.",
            )
        kept = shorter


def _without_oldest_turn(messages: list[Message]) -> list[Message] | None:
    """The conversation without its first user turn and the answers to it; None at the last."""
    start = 1 if messages and messages[0].get("role") == "system" else 0
    users = [i for i, message in enumerate(messages) if message.get("role") == "user"]
    later = [i for i in users if i > start]
    return messages[:start] + messages[later[0] :] if later else None
