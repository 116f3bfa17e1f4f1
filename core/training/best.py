"""Which of the weights a run ends with: the last, unless earlier ones are clearly better.

Evaluations measure the same held-out rows each time, so that two of them can be compared row by
row: what a row is hard by cancels out, and what is left tells how far apart two losses must lie
to mean anything.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

FILE = "held_out.json"
FEWEST_ROWS = 8  # the spread of fewer says nothing
SMALL_DATA_ROWS = 5000

Verdict = Literal["best", "same", "worse"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The held-out rows at one step: the summed loss of each (nats), and its labelled tokens."""

    step: int
    sums: Sequence[float]
    tokens: Sequence[int]

    @property
    def loss(self) -> float:
        """Nats a token."""
        return sum(self.sums) / max(1, sum(self.tokens))

    def noise(self, other: Evaluation) -> float:
        """The standard error of the difference between the two losses, the rows being paired.

        That of a ratio estimator (Cochran, Sampling Techniques, 6.4): rows are the sample, their
        tokens the weights. Infinite where there are too few rows, or not the same ones.
        """
        rows = len(self.sums)
        if rows < FEWEST_ROWS or list(self.tokens) != list(other.tokens):
            return math.inf
        total, difference = sum(self.tokens), self.loss - other.loss
        squares = sum(
            (mine - theirs - difference * tokens) ** 2
            for mine, theirs, tokens in zip(self.sums, other.sums, self.tokens, strict=True)
        )
        return math.sqrt(rows / (rows - 1) * squares) / total


@dataclass(slots=True)
class Judge:
    """Remembers the best evaluation that has a checkpoint, and how long nothing came near it."""

    best: Evaluation | None = None
    last: Evaluation | None = None
    worse_in_a_row: int = 0
    _before: Evaluation | None = None

    def judge(self, evaluation: Evaluation) -> Verdict:
        """Better or worse only beyond the noise; a loss that is no number is worse than any."""
        self.last = evaluation
        verdict = self._compare(evaluation)
        self.worse_in_a_row = self.worse_in_a_row + 1 if verdict == "worse" else 0
        if verdict == "best":
            self._before, self.best = self.best, evaluation
        return verdict

    def _compare(self, evaluation: Evaluation) -> Verdict:
        if not math.isfinite(evaluation.loss):
            return "worse"
        if self.best is None:
            return "best"
        gap, noise = evaluation.loss - self.best.loss, evaluation.noise(self.best)
        if gap < -noise:
            return "best"
        return "worse" if gap > noise else "same"

    def lost(self, step: int) -> None:
        """The checkpoint of this step could not be written."""
        if self.best is not None and self.best.step == step:
            self.best, self._before = self._before, None

    def earlier_is_better(self) -> bool:
        """Whether the last evaluation is worse than the best, beyond the noise."""
        return (
            self.last is not None and self.best is not None and self._compare(self.last) == "worse"
        )

    def write(self, folder: Path) -> None:
        """Keep it in a checkpoint, so that a resumed run judges as one that never stopped."""
        (folder / FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_judge(checkpoint: Path) -> Judge:
    """What `write` kept. A new one where there is nothing, or its best checkpoint is gone."""
    try:
        tree: dict[str, Any] = json.loads((checkpoint / FILE).read_text(encoding="utf-8"))
        judge = Judge(
            _evaluation(tree["best"]),
            _evaluation(tree["last"]),
            tree["worse_in_a_row"],
            _evaluation(tree["_before"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return Judge()
    best = judge.best
    return judge if best is None or _has_checkpoint(checkpoint, best.step) else Judge()


def _evaluation(tree: dict[str, Any] | None) -> Evaluation | None:
    return None if tree is None else Evaluation(**tree)


def _has_checkpoint(checkpoint: Path, step: int) -> bool:
    return checkpoint.with_name(f"checkpoint-{step}").is_dir()


def stops_early(wanted: bool | Literal["auto"], rows: int) -> bool:
    """Small data is learned by heart within a few epochs, so it is watched unless told not to."""
    return rows < SMALL_DATA_ROWS if wanted == "auto" else wanted
