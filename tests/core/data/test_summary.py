"""The figures of a report, against values worked out by hand or by brute force."""

from __future__ import annotations

import random

import numpy as np
import pytest

from core.data.examples import Record
from core.data.formats import Recogniser
from core.data.summary import margin, padding_of, sample_of, statistics, token_statistics
from core.data.tally import Tally
from core.data.verdict import Judge
from tests.core.data.test_inspection import ask, turns


def tally_of(*values: dict) -> Tally:  # type: ignore[type-arg]
    tally = Tally()
    judge = Judge(Recogniser().layout(values[0]).format)
    for number, value in enumerate(values, 1):
        tally.add(judge.judge(Record(number, value)))
    return tally


def test_turns_roles_and_responses() -> None:
    found = statistics(
        tally_of(
            ask("one", "1234"),
            turns(("system", "x"), ("user", "a"), ("assistant", "b"), ("user", "c"),
                  ("assistant", "de")),
            turns(("user", "no answer")),
        )
    )  # fmt: skip
    assert found is not None
    assert (found.turns.p50, found.turns.max, found.turns.mean) == (2, 5, 3.5)
    assert (found.responses.p50, found.responses.p95, found.responses.max) == (2, 4, 4)
    assert found.roles == {"system": 1, "user": 3, "assistant": 3}
    assert statistics(Tally()) is None


def test_plain_text_and_pairs_have_turns_too() -> None:
    text = statistics(tally_of({"text": "hello there"}))
    assert text is not None
    assert (text.turns.max, text.roles, text.responses.max) == (1, {}, 11)
    pair = statistics(tally_of({"prompt": "q", "chosen": "good", "rejected": "bad"}))
    assert pair is not None
    assert pair.roles == {"user": 1, "assistant": 1}


def test_padding_by_hand() -> None:
    even = padding_of(np.full(64, 100), 200)
    assert (even.shuffled, even.grouped, even.packed) == (0, 0, 0)
    two_kinds = padding_of(np.array([10] * 128 + [90] * 128), 100)
    assert two_kinds.grouped == 0
    assert two_kinds.packed == 0
    assert 0.3 < two_kinds.shuffled < 0.5
    alone = padding_of(np.array([60]), 100)
    assert (alone.shuffled, alone.packed) == (0, 0.4)
    assert padding_of(np.array([0, 0]), 100).packed == 0


@pytest.mark.parametrize("seed", range(5))
def test_packing_is_best_fit_with_the_longest_first(seed: int) -> None:
    draw = random.Random(seed)
    size = 100
    lengths = [draw.randint(1, size) for _ in range(300)]
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        fits = [(room, at) for at, room in enumerate(rooms) if room >= length]
        if fits:
            rooms[min(fits)[1]] -= length
        else:
            rooms.append(size - length)
    expected = 1 - sum(lengths) / (len(rooms) * size)
    assert padding_of(np.array(lengths), size).packed == pytest.approx(expected, abs=1e-4)


def test_packing_many_rows_into_long_sequences_is_quick() -> None:
    lengths = np.random.default_rng(1).integers(1, 5000, 200_000)
    assert 0 <= padding_of(lengths, 1_000_000).packed < 0.01


def test_a_sample_says_how_far_it_may_be_off() -> None:
    assert margin(9604) == 0.01  # the textbook number for ±1 point
    tally = tally_of(*[ask(f"question {n}", "answer") for n in range(40)])
    assert sample_of(tally) is None
    tally.signed.extend(range(10))
    sample = sample_of(tally)
    assert sample is not None
    assert (sample.rows, sample.of) == (10, 40)
    tally.tokens.extend(range(10, 20))
    tally.trained.extend([5] * 10)
    tokens = token_statistics(tally, 16)
    assert tokens is not None
    assert (tokens.total, tokens.rows, tokens.counted_rows) == (580, 40, 10)
    assert tokens.total_margin == pytest.approx(1.96 * 2.8723 / 10**0.5 / 14.5, abs=1e-3)
    assert tokens.responses is not None
    assert tokens.responses.mean == 5
