"""Base and tuned model beside each other, row by row and in sum. Nothing here imports torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from core.evaluation.metrics import Answer

Verdict = Literal["fixed", "broke", "right", "wrong"]
"""What the tuning did to a row. Without a base it is right or wrong."""
CERTAINTY = 1.96
FEW_ROWS = 30


@dataclass(frozen=True, slots=True)
class Pair:
    """One held-out row with the answers of both models; None was not generated."""

    number: int
    prompt: str
    reference: str
    base: Answer | None
    tuned: Answer | None

    @property
    def verdict(self) -> Verdict:
        now = self.tuned is not None and self.tuned.exact
        if self.base is None:
            return "right" if now else "wrong"
        if now:
            return "right" if self.base.exact else "fixed"
        return "broke" if self.base.exact else "wrong"


def pair_up(base: Sequence[Answer], tuned: Sequence[Answer]) -> list[Pair]:
    """The rows in the order of the tuned answers, then those that only the base answered."""
    by_number = {answer.number: answer for answer in base}
    pairs = [
        Pair(each.number, each.prompt, each.reference, by_number.pop(each.number, None), each)
        for each in tuned
    ]
    rest = [Pair(a.number, a.prompt, a.reference, a, None) for a in by_number.values()]
    return pairs + rest


def interval(share: float, rows: int) -> tuple[float, float]:
    """Where the true share lies, 95 times in 100, after `rows` trials (Wilson)."""
    z2 = CERTAINTY**2
    middle = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = CERTAINTY * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows * rows))
    half /= 1 + z2 / rows
    return max(0.0, middle - half), min(1.0, middle + half)
