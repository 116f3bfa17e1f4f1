"""The quick look never clears a row in which the closer look would find something."""

from __future__ import annotations

import json

import pytest

from core.data.conversation import completion_turns, prompt_turns
from core.data.examples import Conversation
from core.data.suspicion import clear_lines
from core.data.verdict import check
from tests.core.data.test_sensitive import INNOCENT, PERSONAL, SECRETS

TEXTS = [
    *SECRETS, *(text for text, _ in PERSONAL), *filter(None, INNOCENT), "\x00", "\x08", "\x0c",
    "\x1b[31m", "\x7f", "\x85", "\u202a", "\u202e", "\u2066", "\u2069", "\ufffd", "plain words",
    "I’m sorry, but I can’t assist", "I am unable to help", "As an AI model", "I cannot fulfil",
    "as a large LANGUAGE MODEL", "I'm afraid I can't",
    "GrÃ¼Ã\x9fe", "StraÃŸe", "donâ€™t", "20Â°",
    "Grüße, 你好 ’ – 🧑‍🚀", 'quoted "words"\n\tand lines',
]  # fmt: skip


@pytest.mark.parametrize("ascii_only", [True, False])
def test_what_is_cleared_has_nothing_to_find(ascii_only: bool) -> None:
    lines = [json.dumps({"x": text}, ensure_ascii=ascii_only).encode() for text in TEXTS]
    for text, clear in zip(TEXTS, clear_lines(lines), strict=True):
        row = Conversation((*prompt_turns(text + "?", "q"), *completion_turns(text, "a")))
        assert not clear or not check(row), text


def test_ordinary_rows_are_cleared() -> None:
    lines = [
        rb'{"text": "a \"quoted\" word\n and a line, 12:30 on 2026-11-24"}'.replace(b"-", b"/"),
        '{"text": "Grüße, 你好 ’ – café"}'.encode(),
    ]
    assert clear_lines(lines) == [True, True]
    assert clear_lines([b"\xff\xfe not UTF-8"]) == [True]
