"""Every way to train one model with one method, without those that another one beats.

A setting is dominated when another one needs no more memory, takes no longer and is expected to
turn out no worse. What is left are choices: more memory for less time, or a row or two cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from core.memory.setup import Sharding
from core.methods import MethodName
from core.models.catalogue import ModelCard
from core.planning.candidates import Basis, Candidate
from core.planning.search import (
    checkpointings,
    halves,
    lengths_that_cut_few,
    optimizers,
    packings,
    start_at,
    whole_length,
)
from core.planning.settings import Settings, effort_of, priced

ALIKE = 0.03
"""A share of time or memory that is not worth a choice of its own."""
COMPRESSED = -0.05  # points: 8-bit states make the updates slightly noisier


def front(
    card: ModelCard,
    method: MethodName,
    basis: Basis,
    seq_length: int | None = None,
    sharding: Sharding = "auto",
) -> list[Candidate]:
    """The settings that fit and that no other beats, the quickest first."""
    tried = map(priced, _settings(card, method, basis, seq_length, sharding))
    kept: list[Candidate] = []
    for one in sorted(
        (one for one in tried if one.fits),
        key=lambda c: (-_points(c), effort_of(c), c.prediction.peak),
    ):
        if not any(_dominates(other, one) for other in kept):
            kept.append(one)
    return sorted(kept, key=effort_of)


def _settings(
    card: ModelCard, method: MethodName, basis: Basis, seq_length: int | None, sharding: Sharding
) -> Iterator[Settings]:
    whole = whole_length(basis, card, seq_length)
    lengths = [whole] if seq_length else [whole, *lengths_that_cut_few(basis, whole)[:2]]
    start = start_at(card, method, basis, whole, sharding)
    for length, packing, optimizer, checkpointing, micro in product(
        lengths,
        packings(start),
        optimizers(start),
        checkpointings(method),
        halves(max(1, start.hyper.effective_batch // basis.gpus)),
    ):
        turned = replace(start, length=length, optimizer=optimizer, checkpointing=checkpointing)
        yield turned.with_packing(packing).with_rows(micro)


def _dominates(better: Candidate, other: Candidate) -> bool:
    """Whether the better of two, which comes first, leaves nothing that speaks for the other: less
    time or memory that is worth a choice."""
    leaner = other.prediction.peak < better.prediction.peak * (1 - ALIKE)
    quicker = effort_of(other) < effort_of(better) * (1 - ALIKE)
    return not leaner and not quicker


def _points(candidate: Candidate) -> float:
    """What tells two settings of one model and method apart in quality."""
    cut = candidate.basis.share_cut(candidate.seq_length) or 0.0
    return (0.0 if candidate.optimizer == "adamw" else COMPRESSED) - cut
