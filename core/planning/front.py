"""Every way to train one model with one method, without those that another one beats.

A setting is dominated when another one needs no more memory, takes no longer and is expected to
turn out no worse. What is left are choices: more memory for less time, or a row or two cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

from core.methods import MethodName
from core.models.catalogue import ModelCard
from core.planning.candidates import Basis, Candidate
from core.planning.defaults import defaults
from core.planning.search import (
    Settings,
    checkpointings,
    default_length,
    effort,
    lengths_that_cut_few,
    optimizers,
    priced,
)

ALIKE = 0.03
"""A share of time or memory that is not worth a choice of its own."""
COMPRESSED = -0.05  # points: 8-bit states make the updates slightly noisier


def front(
    card: ModelCard, method: MethodName, basis: Basis, seq_length: int | None = None
) -> list[Candidate]:
    """The settings that fit and that no other beats, the quickest first."""
    found = [one for one in map(priced, _settings(card, method, basis, seq_length)) if one.fits]
    kept: list[Candidate] = []
    for one in sorted(found, key=lambda c: (effort(c), c.prediction.peak, -_points(c))):
        if not any(_dominates(other, one) for other in kept):
            kept.append(one)
    return kept


def _settings(
    card: ModelCard, method: MethodName, basis: Basis, seq_length: int | None
) -> Iterator[Settings]:
    hyper = defaults(basis.rows, card.shape.parameters, method, basis.objective)
    whole = seq_length or default_length(basis, card)
    lengths = [whole] if seq_length else [whole, *lengths_that_cut_few(basis, whole)[:2]]
    start = Settings(card, method, hyper, basis, whole)
    for length, optimizer, checkpointing, micro in product(
        lengths,
        optimizers(method),
        checkpointings(method),
        _micro_batches(hyper.effective_batch, basis),
    ):
        turned = replace(start, length=length, optimizer=optimizer, checkpointing=checkpointing)
        yield turned.with_rows(micro)


def _micro_batches(effective: int, basis: Basis) -> Iterable[int]:
    micro = max(1, effective // basis.gpus)
    while micro >= 1:
        yield micro
        micro //= 2


def _dominates(quicker: Candidate, other: Candidate) -> bool:
    """Whether the quicker of two leaves nothing that would speak for the other."""
    leaner = other.prediction.peak < quicker.prediction.peak * (1 - ALIKE)
    return not leaner and _points(quicker) >= _points(other)


def _points(candidate: Candidate) -> float:
    """What tells two settings of one model and method apart in quality."""
    cut = candidate.basis.share_cut(candidate.seq_length) or 0.0
    return (0.0 if candidate.optimizer == "adamw" else COMPRESSED) - cut
