"""What a person watching the curves would notice: said as a warning, with what to do."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean, median, variance

from core.training.best import Evaluation

WINDOW = 30
SETTLED = 10
SPIKE = 3.0
EXPLOSION = 20.0
RISES = 3
RISE = 1.02  # where there are too few held-out rows to know the noise
FLAT_STEPS = 60
FLAT_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Alarm:
    """A finding: once for each code, so that a bad night is not ten thousand lines."""

    code: str
    message: str
    remedy: str


@dataclass(slots=True)
class Alarms:
    """Looks at the curves as they grow. Not-a-number is the watch's own business."""

    total: int = 0  # steps of the run; 0: not known
    _first: list[float] = field(default_factory=list)
    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _norms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _best: Evaluation | None = None
    _best_loss: float = math.inf
    _rises: int = 0
    _zeros: int = 0
    _told: set[str] = field(default_factory=set)

    def step(self, step: int, loss: float, grad_norm: float | None) -> list[Alarm]:
        """The alarms that this step raises."""
        found = [self._spike(step, loss), self._zero(step, loss)]
        if math.isfinite(loss):
            self._losses.append(loss)
            if len(self._first) < WINDOW and step <= len(self._first) + 1:  # not when resumed
                self._first.append(loss)
            found.append(self._flat(step))
        if grad_norm is not None and math.isfinite(grad_norm):
            found.append(self._explosion(step, grad_norm))
            self._norms.append(grad_norm)
        return self._new(found)

    def evaluation(self, rows: Evaluation, loss: float) -> list[Alarm]:
        """The alarms that this held-out loss raises: rising while training goes on."""
        if not math.isfinite(loss):
            return self._new([_no_number(rows.step)])
        self._rises = self._rises + 1 if self._has_risen(rows, loss) else 0
        if loss < self._best_loss:
            self._best, self._best_loss = rows, loss
        if self._rises < RISES:
            return []
        return self._new(
            [
                Alarm(
                    "over-fitting",
                    f"The held-out loss has been above its best ({self._best_loss:.3f}) for "
                    f"{RISES} evaluations, up to step {rows.step}: the model learns the rows by "
                    "heart.",
                    "Stop here and use an earlier checkpoint, or train for fewer epochs.",
                )
            ]
        )

    def _has_risen(self, rows: Evaluation, loss: float) -> bool:
        """Beyond what chance does to the same rows."""
        if self._best is None:
            return False
        noise = rows.noise(self._best) if rows.sums and self._best.sums else math.inf
        if math.isinf(noise):
            return loss > self._best_loss * RISE
        return loss - self._best_loss > noise

    def _flat(self, step: int) -> Alarm | None:
        """After a fair part of the run: no lower than at its beginning, beyond the noise."""
        if len(self._first) < WINDOW or step < max(FLAT_STEPS, FLAT_SHARE * self.total):
            return None
        before, now = fmean(self._first), fmean(self._losses)
        noise = math.sqrt((variance(self._first) + variance(self._losses)) / WINDOW)
        if before - now > 2 * noise:
            return None
        return Alarm(
            "under-fitting",
            f"The loss does not fall: {now:.3f} over the last {WINDOW} steps up to step {step}, "
            f"{before:.3f} over the first {WINDOW}.",
            "Raise training.learning_rate (three times as high) or method.rank; if the loss was "
            "low from the start, the model knows these rows already.",
        )

    def _spike(self, step: int, loss: float) -> Alarm | None:
        settled = len(self._losses) >= SETTLED and math.isfinite(loss)
        if not settled or loss <= SPIKE * max(median(self._losses), 0.1):
            return None
        return Alarm(
            "loss-spike",
            f"The loss jumped to {loss:.2f} at step {step}, from {median(self._losses):.2f}.",
            "One odd batch is harmless; if the loss stays up, lower training.learning_rate.",
        )

    def _zero(self, step: int, loss: float) -> Alarm | None:
        self._zeros = self._zeros + 1 if loss == 0.0 else 0
        if self._zeros < RISES:
            return None
        return Alarm(
            "zero-loss",
            f"The loss is exactly 0 since step {step - RISES + 1}: no token is trained.",
            "Look at the rows' trained tokens in Data; data.train_on may not suit them.",
        )

    def _explosion(self, step: int, norm: float) -> Alarm | None:
        if len(self._norms) < SETTLED or norm <= EXPLOSION * max(median(self._norms), 1e-3):
            return None
        return Alarm(
            "exploding-gradient",
            f"The gradient norm jumped to {norm:.3g} at step {step}, from "
            f"{median(self._norms):.3g}.",
            "Lower training.learning_rate, or training.max_grad_norm.",
        )

    def _new(self, found: list[Alarm | None]) -> list[Alarm]:
        fresh = [alarm for alarm in found if alarm is not None and alarm.code not in self._told]
        self._told.update(alarm.code for alarm in fresh)
        return fresh


def _no_number(step: int) -> Alarm:
    return Alarm(
        "nan-held-out",
        f"The held-out loss is not a number at step {step}.",
        "Lower training.learning_rate, or set model.precision to bf16 or fp32.",
    )
