"""Answers that stop too early, and answers in another form than the rest."""

from __future__ import annotations

import numpy as np
import pytest

from core.data.answers import (
    BROKEN_JSON,
    FENCED,
    JSON,
    MARKUP,
    OTHER,
    PROSE,
    SHORT,
    STOPS_SHORT,
    UNCLOSED,
    WORD,
    cut_off,
    form_of,
    unlike,
)

LONG = "It rains in Oslo today, so you had better take an umbrella and "


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("", OTHER),
        ("  \n", OTHER),
        ('{"a": [1, 2]}', JSON),
        (' ["a"]\n', JSON),
        ('{"a": 1', BROKEN_JSON + UNCLOSED),
        ("{'a': 1}", BROKEN_JSON),
        ('{"a": 1} is the answer', BROKEN_JSON),
        ("```python\nprint(1)\n```", FENCED),
        ("```python\nprint(1)", FENCED + UNCLOSED),
        (LONG + "see:\n```\nls\n", PROSE + UNCLOSED),
        ("<answer>7</answer>", MARKUP),
        ("positive", WORD),
        ("42", WORD),
        ("It is cold", SHORT),
        (LONG + "a coat.", PROSE),
        (LONG + "a coat!”", PROSE),
        (LONG + "a", PROSE + STOPS_SHORT),
        (LONG + "a coat,", PROSE + STOPS_SHORT),
        ("Ⅷ" * 10_000, PROSE),
    ],
)
def test_form(answer: str, form: int) -> None:
    assert form_of(answer) == form


def rows(*answers: str) -> np.ndarray:
    return np.array([form_of(answer) for answer in answers], np.uint8)


def test_what_is_unlike_nearly_all() -> None:
    most = ['{"a": 1}'] * 24
    found = unlike(rows(*most, "Sure! Here it is.", "{'a': 1}", ""))
    assert np.flatnonzero(found).tolist() == [24, 25]
    assert not unlike(rows(*most[:10], "Sure!")).any()
    assert not unlike(rows(*most, *["no idea, sorry"] * 24)).any()
    assert not unlike(rows(*[LONG + "a coat."] * 30, '{"a": 1}')).any()
    assert np.flatnonzero(unlike(rows(*["yes", "no"] * 15, LONG + "it is so."))).tolist() == [30]


def test_a_sentence_is_cut_off_only_where_others_end() -> None:
    whole = [LONG + f"coat {n}." for n in range(25)]
    assert np.flatnonzero(cut_off(rows(*whole, LONG + "a", "short"))).tolist() == [25]
    assert not cut_off(rows(*whole, *[LONG + "a"] * 5)).any()
    assert not cut_off(rows(*whole[:5], LONG + "a")).any()
    assert np.flatnonzero(cut_off(rows("x", "```\nls"))).tolist() == [1]
