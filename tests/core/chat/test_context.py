"""What is left out of a chat that has outgrown the context."""

from __future__ import annotations

import pytest

from core.chat.context import fit
from core.errors import UserError


def turns(*texts, system=False):
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return [{"role": "system", "content": "S"}, *messages] if system else messages


def encode(messages):
    """One token a character, so that lengths can be read off."""
    return [ord(char) for message in messages for char in message["content"]]


def test_what_fits_stays_whole():
    fitted = fit(turns("a" * 10, "b" * 10, "c" * 10), encode, 100, 50)
    assert (len(fitted.prompt), fitted.max_new_tokens, fitted.dropped) == (30, 50, 0)


def test_the_answer_gets_shorter_before_turns_are_dropped():
    fitted = fit(turns("a" * 30, "b" * 30), encode, 100, 50)
    assert (fitted.max_new_tokens, fitted.dropped) == (40, 0)


def test_the_oldest_turns_go_and_the_system_message_stays():
    messages = turns("a" * 40, "b" * 40, "c" * 40, "d" * 40, "e" * 40, system=True)
    fitted = fit(messages, encode, 160, 50)
    assert fitted.dropped == 2
    assert bytes(fitted.prompt).decode() == "S" + "c" * 40 + "d" * 40 + "e" * 40
    assert fitted.max_new_tokens == 39


def test_a_last_turn_that_is_too_long_alone_is_a_user_error():
    with pytest.raises(UserError, match="200 tokens; the model's context holds 100"):
        fit(turns("a", "b", "c" * 200), encode, 100, 50)


def test_a_model_without_a_limit_takes_everything():
    assert fit(turns("a" * 10_000), encode, None, 5).dropped == 0
