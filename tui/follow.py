"""Following a run in plain lines: for logs, pipes and terminals without the app."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import click

from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.runs.history import RunHistory
from core.runs.sentences import sentence
from core.runs.state import RunState, current_state
from core.runs.trial import read_trial
from core.text import printable
from core.units import bytes_text, count_text, duration_text, number_text

POLL_SECONDS = 0.25
PROGRESS_EVERY_SECONDS = 3.0


class Narrator:
    """Turns events into lines on stderr: every state, evaluation and warning, some of the steps."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.history = RunHistory()
        self._quiet = quiet
        self._last_progress = 0.0

    def tell(self, events: Iterable[Event]) -> None:
        """Fold the events and print what is worth a line."""
        for event in events:
            before = self.history.stage
            self.history.update([event])
            line = self._line(event, before)
            if line and not self._quiet:
                click.echo(printable(line, single_line=True), err=True)

    def _line(self, event: Event, stage_before: str) -> str | None:
        kind = event["kind"]
        if kind == "state":
            self._last_progress = 0.0
            stage = event.get("stage") or event.get("phase", "")
            return f"── {stage}" if stage and stage != stage_before else None
        if kind == "progress":
            return self._progress_line(event) if self._due(event) else None
        if kind == "log":
            last = self.history.step == self.history.total_steps
            return self._step_line() if last or self._due(event) else None
        text = sentence(event)
        indent = " " if kind in ("warning", "error") else "   "
        return f"{indent}{text}" if text else None

    def _due(self, event: Event) -> bool:
        """Progress lines are rationed by the time of the events, so history reads alike."""
        at = float(event.get("t", 0.0))
        if at - self._last_progress < PROGRESS_EVERY_SECONDS:
            done, total = event.get("done"), event.get("total")
            if done is None or done != total:
                return False
        self._last_progress = at
        return True

    def _progress_line(self, event: Event) -> str:
        show = bytes_text if event.get("unit") == "bytes" else count_text
        done, total = show(event.get("done")), event.get("total")
        amount = f"{done} of {show(total)}" if total else done
        unit = "" if event.get("unit") == "bytes" else f" {event.get('unit', '')}"
        return f"   {event.get('text', '')} {amount}{unit}".replace("    ", "   ")

    def _step_line(self) -> str:
        history = self.history
        total = count_text(history.total_steps)
        parts = [f"   step {history.step:>{len(total)}}/{total}"]
        if history.loss:
            parts.append(f"loss {number_text(history.loss[-1][1], 4)}")
        if history.tokens_per_s:
            parts.append(f"{history.tokens_per_s[-1][1]:.0f} tokens/s")
        if history.eta_seconds:
            parts.append(f"{duration_text(history.eta_seconds)} left")
        return "  ".join(parts)


def follow(run: RunDirectory, *, quiet: bool = False) -> RunState:
    """Print the run's whole history and then its live tail, until it has ended."""
    reader, narrator = EventReader(run.events), Narrator(quiet=quiet)
    while True:
        state = current_state(run)  # read before the events: what it says has been written
        events = reader.read()
        narrator.tell(events)
        if not state.alive and not events:
            return state
        if not reader.behind:
            time.sleep(POLL_SECONDS)


def outcome(run: RunDirectory, state: RunState) -> dict[str, Any]:
    """The run as one JSON object, with what was measured at its end."""
    history = RunHistory()
    reader = EventReader(run.events)
    history.update(reader.read())
    while reader.behind:
        history.update(reader.read())
    hidden = {"v", "t", "kind", "model"}
    trial = read_trial(run)
    return {
        **summary(run, state),
        "error": str_or_none(state),
        "results": {
            name: {key: value for key, value in event.items() if key not in hidden}
            for name, event in history.results.items()
        },
        **({} if trial is None else {"trial": asdict(trial)}),
    }


def summary(run: RunDirectory, state: RunState) -> dict[str, Any]:
    """One entry of `runs --json`."""
    return {
        "id": run.id,
        "name": run.id.rsplit("-", 2)[0],
        "state": state.phase,
        "step": state.step,
        "total_steps": state.total_steps,
        "loss": state.loss,
        "eval_loss": state.eval_loss,
        "created": state.created,
        "directory": str(run.path),
    }


def str_or_none(state: RunState) -> str | None:
    """Why the run ended otherwise than well, in a sentence."""
    if state.exit is None:
        return None
    return f"{state.exit.message} {state.exit.remedy}".strip()
