"""What counts as exact, and what as JSON."""

from __future__ import annotations

import pytest

from core.evaluation.metrics import Answer, exact, exact_match, json_valid


def answer(text, reference='{"a": 1}'):
    return Answer(1, "prompt", reference, text, exact(text, reference), "stop")


@pytest.mark.parametrize(
    ("text", "reference", "equal"),
    [
        ("on", "on", True),
        (" on\n", "on", True),
        ("On", "on", False),
        ('{"a":1}', '{"a": 1}', False),
        ("on off", "on  off", False),
        ("", "on", False),
    ],
)
def test_only_white_space_around_is_forgiven(text, reference, equal):
    assert exact(text, reference) is equal


def test_shares_are_of_the_rows_and_unknown_without_any():
    rows = [answer('{"a": 1}'), answer("no"), answer('{"a": 2}'), answer("[1")]
    assert exact_match(rows) == 0.25
    assert json_valid(rows) == 0.5
    assert exact_match([]) is None
    assert json_valid([]) is None


def test_json_is_not_asked_for_where_references_are_text():
    assert json_valid([answer("{}", "{}"), answer("{}", "plain text")]) is None
    assert json_valid([answer("42", "42")]) is None
