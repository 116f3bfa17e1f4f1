"""A run's events folded into what a screen shows. One fold serves the app and the CLI."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from core.runs.events import Event
from core.runs.sentences import sentence
from core.runs.series import Series, as_number

RATE_WINDOW_SECONDS = 8.0
JOURNAL_LINES = 100
STAGES = ("importing", "downloading", "encoding", "loading", "training", "merging", "evaluating")
"""The stages of a run in their order (the import of the libraries comes between them)."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A long job inside a stage. `total` is None while unknown, `rate` is in units a second."""

    stage: str
    done: float
    total: float | None
    unit: str
    text: str = ""
    time: float = 0.0
    rate: float | None = None

    @property
    def fraction(self) -> float | None:
        """The share that is done, 0 to 1; None while the total is unknown."""
        return min(1.0, self.done / self.total) if self.total else None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at the present rate."""
        if not self.total or not self.rate:
            return None
        return max(0.0, self.total - self.done) / self.rate


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning or an error, in the worker's words."""

    severity: str
    code: str
    message: str
    remedy: str
    time: float


@dataclass(slots=True)
class RunHistory:
    """Everything the events say so far. `loss` and `eval_loss` are nats a token by step; `journal`
    is what happened of late, in words with its time.

    After a resume the steps since the checkpoint come again; the later telling replaces the
    earlier one, so that every curve is single-valued.
    """

    loss: Series = field(default_factory=Series)
    eval_loss: Series = field(default_factory=Series)
    learning_rate: Series = field(default_factory=Series)
    grad_norm: Series = field(default_factory=Series)
    tokens_per_s: Series = field(default_factory=Series)
    step: int = 0
    total_steps: int | None = None
    epoch: float | None = None
    tokens: int | None = None
    phase: str = "preparing"
    stage: str = ""
    stages: list[str] = field(default_factory=list)
    stage_since: float | None = None
    progress: Progress | None = None
    notices: list[Notice] = field(default_factory=list)
    samples: list[Event] = field(default_factory=list)
    checkpoints: list[Event] = field(default_factory=list)
    journal: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=JOURNAL_LINES))
    results: dict[str, Event] = field(default_factory=dict)
    step_seconds: float | None = None
    started: float | None = None
    training_started: float | None = None
    last_event: float | None = None
    ended: float | None = None
    sessions: int = 1
    _session_started: float | None = None
    _earlier_sessions: float = 0.0
    _pace: deque[tuple[float, float]] = field(default_factory=deque)

    def update(self, events: Iterable[Event]) -> None:
        """Fold further events in, in the order of the file."""
        for event in events:
            fold = _FOLDS.get(event["kind"])
            time = event.get("t", self.last_event)
            if self.started is None:
                self.started = self._session_started = time
            if fold is not None:
                fold(self, event)
            if text := sentence(event):
                self.journal.append((time or 0.0, text))
            self.last_event = time

    @property
    def eta_seconds(self) -> float | None:
        """Seconds of training left at the present pace; None before the first steps."""
        if not self.total_steps or not self.step_seconds:
            return None
        return max(0, self.total_steps - self.step) * self.step_seconds

    def elapsed(self, now: float | None = None) -> float | None:
        """Seconds that the run has been at work, the pauses between sessions left out.

        `now` for a living run; without it, up to the last event.
        """
        if self._session_started is None or self.last_event is None:
            return None
        end = self.ended or now or self.last_event
        return self._earlier_sessions + max(0.0, end - self._session_started)

    @property
    def nan_losses(self) -> int:
        """How many logged losses were not finite."""
        return len(self.loss.gaps)

    def _curves(self) -> tuple[Series, ...]:
        return (self.loss, self.eval_loss, self.learning_rate, self.grad_norm, self.tokens_per_s)


def _fold_state(history: RunHistory, event: Event) -> None:
    phase, stage = event.get("phase", history.phase), event.get("stage", history.stage)
    if phase == "preparing" and not stage and history.stages:
        _begin_session(history, event)
    if stage != history.stage:
        history.progress = None
        history.stage_since = event.get("t")
        history._pace.clear()
    if stage and stage not in history.stages:
        history.stages.append(stage)
    if stage == "training" and history.training_started is None:
        history.training_started = event.get("t")
    history.phase, history.stage = phase, stage
    history.total_steps = event.get("total_steps", history.total_steps)


def _begin_session(history: RunHistory, event: Event) -> None:
    """A resume: what the run did before counts, the time that it lay still does not."""
    last = history.ended or history.last_event
    if last is not None and history._session_started is not None:
        history._earlier_sessions += max(0.0, last - history._session_started)
    history._session_started = event.get("t")
    history.sessions += 1
    history.ended = None
    history.step_seconds = None
    history.stages.clear()
    history.notices.clear()  # of an earlier session; the journal keeps them


def _fold_progress(history: RunHistory, event: Event) -> None:
    done, time = as_number(event.get("done")), event.get("t", 0.0)
    stage = event.get("stage", history.stage)
    before = history.progress
    pace = history._pace
    if before is None or (before.stage, before.text) != (stage, event.get("text", "")):
        pace.clear()
    pace.append((time, done))
    while len(pace) > 2 and time - pace[0][0] > RATE_WINDOW_SECONDS:
        pace.popleft()
    seconds = time - pace[0][0]
    history.progress = Progress(
        stage,
        done,
        event.get("total"),
        event.get("unit", ""),
        event.get("text", ""),
        time,
        (done - pace[0][1]) / seconds if seconds > 0 else None,
    )


def _fold_log(history: RunHistory, event: Event) -> None:
    step = int(event.get("step", history.step))
    if history.loss and step <= history.loss.steps[-1]:
        for curve in history._curves():
            curve.rewind(step)
    history.step = step
    history.epoch = event.get("epoch", history.epoch)
    history.tokens = event.get("tokens", history.tokens)
    history.loss.put(step, event.get("loss"))
    history.learning_rate.put(step, event.get("lr"))
    history.grad_norm.put(step, event.get("grad_norm"))
    history.tokens_per_s.put(step, event.get("tokens_per_s"))
    seconds = event.get("step_seconds")
    if seconds is not None:
        before = history.step_seconds
        history.step_seconds = seconds if before is None else 0.8 * before + 0.2 * seconds


def _fold_eval(history: RunHistory, event: Event) -> None:
    history.eval_loss.put(int(event.get("step", history.step)), event.get("loss"))


def _fold_notice(history: RunHistory, event: Event) -> None:
    history.notices.append(
        Notice(
            event["kind"],
            _text(event, "code"),
            _text(event, "message"),
            _text(event, "remedy"),
            event.get("t", 0.0),
        )
    )


def _text(event: Event, key: str) -> str:
    value: Any = event.get(key)
    return "" if value is None else str(value)


def _fold_result(history: RunHistory, event: Event) -> None:
    history.results[event.get("model", "")] = event


def _fold_done(history: RunHistory, event: Event) -> None:
    history.phase = event.get("phase", "finished")
    history.progress = None
    history.ended = event.get("t")


_FOLDS = {
    "state": _fold_state,
    "progress": _fold_progress,
    "log": _fold_log,
    "eval": _fold_eval,
    "sample": lambda history, event: history.samples.append(event),
    "checkpoint": lambda history, event: history.checkpoints.append(event),
    "result": _fold_result,
    "warning": _fold_notice,
    "error": _fold_notice,
    "done": _fold_done,
}
