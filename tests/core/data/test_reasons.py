"""Why an answer is not trained: what lies beyond the cut."""

from __future__ import annotations

from core.data.encoded import IGNORED, Encoded
from core.data.reasons import trained_runs, why_cut

X = IGNORED


def encoded(labels: list[int]) -> Encoded:
    trained = sum(label != IGNORED for label in labels)
    return Encoded(list(range(len(labels))), labels, trained, True, 0)


def test_runs_are_the_answers() -> None:
    assert trained_runs([X, 1, 2, X, X, 3]) == [(1, 3), (5, 6)]
    assert trained_runs([]) == trained_runs([X, X]) == []


def test_each_answer_that_loses_something_is_named() -> None:
    row = encoded([X, 1, 2, X, 3, 4, 5, X, 6])
    assert why_cut(row, 9) == ()
    first, second = why_cut(row, 5)
    assert first.startswith("Answer 2 of 3 is cut: its last 2 of 3 tokens are not trained")
    assert second == "Answer 3 of 3 is not trained: it begins after the cut at 5."


def test_a_text_is_no_answer() -> None:
    assert why_cut(encoded([1, 2, 3]), 2)[0].startswith("The text is cut: its last 1 of 3")
    assert why_cut(encoded([X, X, 1, 2]), 3)[0].startswith("The answer is cut")
