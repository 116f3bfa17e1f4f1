"""Rows into batches: little padding, and an order that a resumed run finds again.

The order is a function of seed and epoch alone. Rows are shuffled, then sorted by length within
large chunks, cut into effective batches, and the batches shuffled. How an effective batch is
split into micro-batches changes nothing about which rows one optimiser step sees.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from core.data.encoding import IGNORED
from core.data.training_rows import TokenRow

CHUNK_BATCHES = 32
Tokens = Sequence[int]


class BatchOrder(Sampler[int]):  # type: ignore[misc]
    """Row numbers in the order of training, epoch by epoch.

    Several processes take `turn` rows in turn (together), so that the last turn is filled up: with
    the number after the last row, which stands for a row that trains nothing.
    """

    def __init__(
        self, lengths: Sequence[int], effective_batch: int, seed: int, turn: int = 1
    ) -> None:
        self._lengths = lengths
        self._batch = effective_batch
        self._seed = seed
        self._epoch = 0
        self._missing = -len(lengths) % turn

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths) + self._missing

    def __iter__(self) -> Iterator[int]:
        order = epoch_order(self._lengths, self._batch, self._seed, self._epoch)
        return iter(order + self._missing * [len(self._lengths)])


def epoch_order(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[int]:
    """The rows of one epoch. The incomplete batch, if there is one, comes last.

    The very first batch holds the longest row: if memory does not suffice, it shows at once.
    """
    generator = random.Random(f"{seed}/{epoch}")
    rows = list(range(len(lengths)))
    generator.shuffle(rows)
    whole = len(rows) - len(rows) % batch
    if epoch == 0 and rows:
        at = max(range(len(rows)), key=lambda place: lengths[rows[place]])
        if at >= whole > 0:
            rows[0], rows[at] = rows[at], rows[0]
    rows, rest = rows[:whole], rows[whole:]
    chunk = batch * CHUNK_BATCHES
    batches: list[list[int]] = []
    for start in range(0, len(rows), chunk):
        part = sorted(rows[start : start + chunk], key=lambda row: -lengths[row])
        batches += [part[at : at + batch] for at in range(0, len(part), batch)]
    generator.shuffle(batches)
    if epoch == 0 and batches:
        batches.insert(0, batches.pop(max(range(len(batches)), key=_longest(batches, lengths))))
    return [row for each in [*batches, rest] for row in each]


def _longest(batches: list[list[int]], lengths: Sequence[int]) -> Callable[[int], int]:
    return lambda number: max(lengths[row] for row in batches[number])


def filler(pad: int, like: TokenRow) -> TokenRow:
    """A row of the same kind that trains nothing: where several processes need equally many."""
    blank, nothing = [pad, pad], [IGNORED, IGNORED]
    paired = like.second_ids is not None
    return TokenRow(
        -1,
        blank,
        nothing,
        second_ids=blank if paired else None,
        second_labels=nothing if paired else None,
        desirable=None if like.desirable is None else False,
        reference=None if like.reference is None else [0.0, 0.0],
    )


def collate(rows: Sequence[TokenRow], pad: int, *, packed: bool = False) -> dict[str, Tensor]:
    """The rows as one batch. Of rows with two sequences all first ones come before all second.

    `packed`: end to end instead of below each other, without any padding.
    """
    sequences = [(row.input_ids, row.labels) for row in rows]
    sequences += [
        (row.second_ids, row.second_labels or []) for row in rows if row.second_ids is not None
    ]
    batch = _packed(sequences) if packed else _padded(sequences, pad)
    batch["tokens"] = torch.tensor([sum(row.tokens for row in rows if row.trained)])
    if rows[0].second_ids is not None:
        batch["lengths"] = torch.tensor([len(row.input_ids) for row in rows])
    if rows[0].desirable is not None:
        batch["desirable"] = torch.tensor([row.desirable is True for row in rows])
    if rows[0].reference is not None:
        batch["reference"] = torch.tensor([row.reference for row in rows])
    return batch


def _padded(sequences: Sequence[tuple[Tokens, Tokens]], pad: int) -> dict[str, Tensor]:
    """Padded on the right, to the longest of the batch and no further."""
    shape = (len(sequences), max(len(ids) for ids, _ in sequences))
    input_ids = torch.full(shape, pad, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    for at, (ids, trained) in enumerate(sequences):
        input_ids[at, : len(ids)] = torch.as_tensor(ids, dtype=torch.long)
        labels[at, : len(ids)] = torch.as_tensor(trained, dtype=torch.long)
    return {"input_ids": input_ids, "labels": labels}


def _packed(sequences: Sequence[tuple[Tokens, Tokens]]) -> dict[str, Tensor]:
    """One long row. Positions start again with every sequence, and no sequence's first token is
    predicted from the one before it."""
    ids = [token for each, _ in sequences for token in each]
    labels = [label for _, each in sequences for label in (IGNORED, *each[1:])]
    positions = [at for each, _ in sequences for at in range(len(each))]
    return {
        "input_ids": torch.tensor([ids]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.tensor([positions]),
    }


def by_length(rows: Sequence[TokenRow], positions: int) -> Iterator[list[TokenRow]]:
    """Batches of similar length, the longest first, none above a budget of positions."""
    waiting = sorted(rows, key=lambda row: -row.longest)
    while waiting:
        size = max(1, positions // waiting[0].longest)
        yield waiting[:size]
        waiting = waiting[size:]
