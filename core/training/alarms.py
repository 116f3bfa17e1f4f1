"""What a person watching the curves would notice: said as a warning, with what to do."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

WINDOW = 30
SETTLED = 10
SPIKE = 3.0
EXPLOSION = 20.0
RISES = 3
RISE = 1.02


@dataclass(frozen=True, slots=True)
class Alarm:
    """A finding: once for each code, so that a bad night is not ten thousand lines."""

    code: str
    message: str
    remedy: str


@dataclass(slots=True)
class Alarms:
    """Looks at the curves as they grow. Not-a-number is the watch's own business."""

    _losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _norms: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    _best: float = math.inf
    _rises: int = 0
    _zeros: int = 0
    _told: set[str] = field(default_factory=set)

    def step(self, step: int, loss: float, grad_norm: float | None) -> list[Alarm]:
        """The alarms that this step raises."""
        found = [self._spike(step, loss), self._zero(step, loss)]
        if math.isfinite(loss):
            self._losses.append(loss)
        if grad_norm is not None and math.isfinite(grad_norm):
            found.append(self._explosion(step, grad_norm))
            self._norms.append(grad_norm)
        return self._new(found)

    def evaluation(self, step: int, loss: float) -> list[Alarm]:
        """The alarms that this held-out loss raises: rising while training goes on."""
        if not math.isfinite(loss):
            return []
        self._rises = self._rises + 1 if loss > self._best * RISE else 0
        self._best = min(self._best, loss)
        if self._rises < RISES:
            return []
        return self._new(
            [
                Alarm(
                    "over-fitting",
                    f"The held-out loss has been above its best ({self._best:.3f}) for {RISES} "
                    f"evaluations, up to step {step}: the model learns the rows by heart.",
                    "Stop here and use an earlier checkpoint, or train for fewer epochs.",
                )
            ]
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
