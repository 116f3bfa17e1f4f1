"""Untrusted text never reaches a terminal as something that it would obey."""

from __future__ import annotations

import pytest

from core.text import clip, printable


@pytest.mark.parametrize(
    "hostile",
    ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202eevil", "x\u200by", "\x00", "\ud800"],
)
def test_nothing_that_a_terminal_obeys_is_left(hostile: str) -> None:
    safe = printable(hostile)
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in safe)
    assert "\u202e" not in safe
    safe.encode()  # no lone surrogate either


def test_controls_become_their_pictures() -> None:
    assert printable("\x1b[31mred") == "␛[31mred"


def test_one_line_stays_one_line() -> None:
    assert printable("a\nb\tc\r\nd", single_line=True) == "a⏎b c⏎d"


def test_plain_text_in_any_script_is_left_alone() -> None:
    text = "naïve 日本語 עברית 🙂\nsecond"
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("hello", 5, "hello"),
        ("hello", 4, "hel…"),
        ("日本語", 5, "日本…"),
        ("", 3, ""),
        ("ab", 0, ""),
    ],
)
def test_clip_counts_cells(text: str, width: int, expected: str) -> None:
    assert clip(text, width) == expected
