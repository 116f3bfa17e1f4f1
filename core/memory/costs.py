"""The two small types in which the cost of a layer is told, operation by operation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Cost(NamedTuple):
    """Bytes: so many for each token, and so many whatever the batch."""

    token: float = 0.0
    fixed: float = 0.0

    def __add__(self, other: Cost) -> Cost:  # type: ignore[override]
        return Cost(self.token + other.token, self.fixed + other.fixed)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.token - other.token, self.fixed - other.fixed)


NOTHING = Cost()


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a layer. `saved` is what it keeps for the backward pass; `forward` and
    `backward` are what it needs beside all that is kept before it: alternatives, of which the
    larger counts. `squared` is kept per token and token of context (written-out attention), and
    `undone` are its gradients.

    `escapes` is the share of `saved` that checkpointing does not give back.
    """

    saved: Cost = NOTHING
    forward: tuple[Cost, ...] = ()
    backward: tuple[Cost, ...] = ()
    squared: float = 0.0
    undone: float = 0.0
    escapes: float = 0.0


class Line(NamedTuple):
    """Bytes as a function of the batch: for each token, in all, and for each token and token of
    context."""

    token: float
    fixed: float
    squared: float

    def of(self, tokens: int, length: int) -> float:
        return (self.token + self.squared * length) * tokens + self.fixed

    def covers(self, other: Line) -> bool:
        """Whether it is the larger for every batch."""
        pairs = zip(self, other, strict=True)
        return all(mine >= theirs for mine, theirs in pairs)


@dataclass(frozen=True, slots=True)
class Layer:
    """What a layer keeps, and the lines of which the highest is its peak, both ways; `escapes` are
    bytes per token that stay even where it is checkpointed."""

    kept: Line
    forwards: tuple[Line, ...]
    backwards: tuple[Line, ...]
    escapes: float

    def saved(self, tokens: int, length: int) -> float:
        """What the whole layer keeps for its backward pass."""
        return self.kept.of(tokens, length)

    def forward_peak(self, tokens: int, length: int) -> float:
        """The most that is alive while the layer runs forwards, with what it has kept so far."""
        return max(line.of(tokens, length) for line in self.forwards)

    def backward_peak(self, tokens: int, length: int) -> float:
        """The most that is alive while it is differentiated, with what it still keeps."""
        return max(line.of(tokens, length) for line in self.backwards)


def layer_of(operations: Iterable[Operation]) -> Layer:
    """The layer that these operations make, in this order."""
    token = fixed = squared = escapes = 0.0
    forwards, backwards = [], []
    for each in operations:
        forwards += [Line(token + a.token, fixed + a.fixed, squared) for a in each.forward]
        token, fixed = token + each.saved.token, fixed + each.saved.fixed
        squared += each.squared
        escapes += each.escapes
        most = squared + each.undone
        backwards += [Line(token + a.token, fixed + a.fixed, most) for a in each.backward]
    return Layer(Line(token, fixed, squared), _highest(forwards), _highest(backwards), escapes)


def _highest(lines: list[Line]) -> tuple[Line, ...]:
    """Those that are the highest for some batch, the rest left out."""
    found: list[Line] = []
    for line in lines:
        if not any(other.covers(line) for other in found):
            found = [other for other in found if not line.covers(other)] + [line]
    return tuple(found)
