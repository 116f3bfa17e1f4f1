"""The order of rows, and their padding."""

from __future__ import annotations

import random

import pytest

from core.data.encoding import IGNORED
from core.data.training_rows import TokenRow
from core.training.batches import BatchOrder, collate, epoch_order, filler

GENERATOR = random.Random(3)
LENGTHS = [GENERATOR.randint(5, 200) for _ in range(203)]


def padding(order: list[int], batch: int) -> int:
    batches = [order[at : at + batch] for at in range(0, len(order), batch)]
    widest = sum(max(LENGTHS[row] for row in each) * len(each) for each in batches)
    return widest - sum(LENGTHS)


def test_every_row_once_and_another_order_each_epoch() -> None:
    first, second = (epoch_order(LENGTHS, 8, 42, epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(len(LENGTHS)))
    assert first != second
    assert first == epoch_order(LENGTHS, 8, 42, 0)
    assert first != epoch_order(LENGTHS, 8, 43, 0)


def test_little_padding() -> None:
    shuffled = list(range(len(LENGTHS)))
    random.Random(0).shuffle(shuffled)
    assert padding(epoch_order(LENGTHS, 8, 42, 0), 8) < padding(shuffled, 8) / 4


def test_long_and_short_batches_are_mixed() -> None:
    order = epoch_order(LENGTHS, 8, 42, 0)
    widths = [max(LENGTHS[row] for row in order[at : at + 8]) for at in range(0, 200, 8)]
    assert widths != sorted(widths)
    assert widths != sorted(widths, reverse=True)


@pytest.mark.parametrize("seed", range(40))
def test_the_longest_row_comes_at_once(seed: int) -> None:
    """Also where chance had put it into the incomplete batch, which comes last."""
    lengths = [*LENGTHS[:11], 999]
    order = epoch_order(lengths, 8, seed, 0)
    assert 11 in order[:8]
    assert sorted(order) == list(range(12))


def test_several_processes_take_whole_turns() -> None:
    """What is missing of the last turn is a row that trains nothing."""
    order = BatchOrder(LENGTHS[:13], 8, 42, turn=8)
    assert len(order) == len(list(order)) == 16
    assert list(order)[:13] == epoch_order(LENGTHS[:13], 8, 42, 0)
    assert list(order)[13:] == [13, 13, 13]
    plain = collate([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}], 0)
    empty = filler(0)
    row = {"input_ids": empty.input_ids, "labels": empty.labels}
    filled = collate([{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, row], 0)
    assert int(filled["tokens"]) == int(plain["tokens"]) == 3
    assert bool((filled["labels"][1] == -100).all())


@pytest.mark.parametrize("count", [1, 7, 8, 9])
def test_few_rows(count: int) -> None:
    assert sorted(epoch_order(LENGTHS[:count], 8, 0, 0)) == list(range(count))


def test_padded_to_the_longest_row_on_the_right() -> None:
    rows = [
        TokenRow(1, [5, 6, 7], [IGNORED, 6, 7]),
        TokenRow(2, [8], [8]),
    ]
    batch = collate(rows, pad=2)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 2, 2]]
    assert batch["labels"].tolist() == [[IGNORED, 6, 7], [8, IGNORED, IGNORED]]
    assert batch["tokens"].item() == 4
