"""Rows into batches: little padding, and an order that a resumed run finds again.

The order is a function of seed and epoch alone. Rows are shuffled, then sorted by length within
large chunks, cut into effective batches, and the batches shuffled. How an effective batch is
split into micro-batches changes nothing about which rows one optimiser step sees.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import Sampler

from core.data.encoding import IGNORED

CHUNK_BATCHES = 32


class Row(Protocol):
    """An encoded training sequence, whoever encoded it."""

    @property
    def input_ids(self) -> list[int]: ...

    @property
    def labels(self) -> list[int]: ...


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


@dataclass(frozen=True, slots=True)
class Filler:
    """A row that trains nothing: where several processes need equally many rows."""

    input_ids: list[int]
    labels: list[int]


def filler(pad: int) -> Filler:
    return Filler([pad, pad], [IGNORED, IGNORED])


def collate(rows: Sequence[dict[str, Sequence[int]]], pad: int) -> dict[str, Tensor]:
    """Pad on the right, to the longest row of the batch and no further."""
    longest = max(len(row["input_ids"]) for row in rows)
    shape = (len(rows), longest)
    input_ids = torch.full(shape, pad, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    for index, row in enumerate(rows):
        length = len(row["input_ids"])
        input_ids[index, :length] = torch.as_tensor(row["input_ids"], dtype=torch.long)
        labels[index, :length] = torch.as_tensor(row["labels"], dtype=torch.long)
    trained = [row for row in rows if any(label != IGNORED for label in row["labels"])]
    tokens = torch.tensor([sum(len(row["input_ids"]) for row in trained)])
    return {"input_ids": input_ids, "labels": labels, "tokens": tokens}
