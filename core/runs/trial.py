"""What a trial has measured, and what the real run will take by it.

Everything is read off the trial's own events: how long each part took, and how much of it there
was. The real run has the same parts, more of some.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import Any

from core.runs.directory import RunDirectory, write_atomically
from core.runs.events import Event, EventReader
from core.units import bytes_text, count_text, duration_text

FILE = "trial.json"
WARM_UP_STEPS = 2  # the first steps pay for the kernels' choice and the allocator's growth


@dataclass(frozen=True, slots=True)
class RealRun:
    """What the recipe's own run consists of: steps, tokens, held-out rows, answers."""

    steps: int
    tokens: int
    evaluations: int
    evaluation_rows: int
    checkpoints: int
    answers: int
    dollars_per_hour: float | None = None


@dataclass(frozen=True, slots=True)
class TrialReport:
    """Measured: `tokens_per_s`, `seconds_per_step` and peaks in bytes (`vram_peak` of the whole
    process, None without a GPU). Expected of the real run: seconds of each part, their sum, and
    the price (None where the recipe has none)."""

    steps: int
    tokens_per_s: float
    seconds_per_step: float
    ram_peak: int | None
    vram_peak: int | None
    expected_steps: int
    expected_tokens: int
    start_seconds: float
    training_seconds: float
    evaluating_seconds: float
    saving_seconds: float
    finishing_seconds: float
    expected_seconds: float
    expected_dollars: float | None


def measure(events: Sequence[Event], real: RealRun) -> TrialReport | None:
    """The report; None where not a single step was taken."""
    logs = [event for event in events if event["kind"] == "log"]
    steady = logs[WARM_UP_STEPS:] or logs
    seconds = sum(event["step_seconds"] for event in steady)
    if not steady or seconds <= 0:
        return None
    rate = sum(event["tokens_per_s"] * event["step_seconds"] for event in steady) / seconds
    parts = {
        "start_seconds": _start(events),
        "training_seconds": real.tokens / rate,
        "evaluating_seconds": real.evaluations * real.evaluation_rows * _evaluation(events),
        "saving_seconds": real.checkpoints * _saving(events),
        "finishing_seconds": _finishing(events, real.answers),
    }
    expected = sum(parts.values())
    price = real.dollars_per_hour
    return TrialReport(
        steps=len(logs),
        tokens_per_s=round(rate, 1),
        seconds_per_step=round(seconds / len(steady), 4),
        ram_peak=_peak(events, "ram_peak"),
        vram_peak=_peak(events, "vram_peak"),
        expected_steps=real.steps,
        expected_tokens=real.tokens,
        expected_seconds=round(expected, 1),
        expected_dollars=None if price is None else round(price * expected / 3600, 4),
        **{name: round(value, 2) for name, value in parts.items()},
    )


def write_trial(run: RunDirectory, real: RealRun) -> TrialReport | None:
    """Measure the run by its events, and keep the report in its folder."""
    reader = EventReader(run.events)
    events = reader.read()
    while reader.behind:
        events += reader.read()
    report = measure(events, real)
    if report is not None:
        write_atomically(run.path / FILE, json.dumps(asdict(report), indent=1))
    return report


def read_trial(run: RunDirectory) -> TrialReport | None:
    """The report of a trial that has ended; None for any other run."""
    try:
        tree: Any = json.loads((run.path / FILE).read_text(encoding="utf-8"))
        return TrialReport(**tree)
    except (OSError, ValueError, TypeError):
        return None


def trial_lines(report: TrialReport) -> list[str]:
    """The report for people."""
    memory = f"{bytes_text(report.ram_peak)} RAM"
    if report.vram_peak is not None:
        memory = f"{bytes_text(report.vram_peak)} VRAM, {memory}"
    lines = [
        f"measured  {count_text(report.tokens_per_s)} tokens/s, "
        f"{report.seconds_per_step:.3g} s a step, peak {memory}",
        f"real run  {count_text(report.expected_steps)} steps, "
        f"{count_text(report.expected_tokens)} tokens: about "
        f"{duration_text(report.expected_seconds)}"
        + ("" if report.expected_dollars is None else f", ${report.expected_dollars:,.2f}"),
    ]
    parts = (
        ("start", report.start_seconds),
        ("training", report.training_seconds),
        ("held-out loss", report.evaluating_seconds),
        ("checkpoints", report.saving_seconds),
        ("merge and evaluation", report.finishing_seconds),
    )
    return [*lines, "          " + ", ".join(f"{name} {duration_text(s)}" for name, s in parts)]


def _start(events: Sequence[Event]) -> float:
    """From the first event to the first step: imports, download, encoding, loading."""
    first = next(event["t"] for event in events if event["kind"] == "log")
    warm_up = next(event["step_seconds"] for event in events if event["kind"] == "log")
    return max(0.0, float(first - events[0]["t"] - warm_up))


def _evaluation(events: Sequence[Event]) -> float:
    """Seconds a held-out row, of the loss that is measured while training."""
    return _typical(
        (event["t"] - before["t"]) / max(1, event["rows"])
        for before, event in pairwise(events)
        if event["kind"] == "eval" and before["kind"] == "log"
    )


def _saving(events: Sequence[Event]) -> float:
    """Seconds a checkpoint."""
    return _typical(
        event["t"] - before["t"]
        for before, event in pairwise(events)
        if event["kind"] == "checkpoint"
    )


def _typical(values: Any) -> float:
    found = list(values)
    return median(found) if found else 0.0


def _finishing(events: Sequence[Event], answers: int) -> float:
    """The stages after training. What an answer takes is known from those that were written."""
    stages = [(e.get("stage"), e["t"]) for e in events if e["kind"] == "state"]
    begun = [t for stage, t in stages if stage == "merging"]
    begun = begun or [t for stage, t in stages if stage == "evaluating"]  # nothing to merge
    if not begun:
        return 0.0
    results = [event for event in events if event["kind"] == "result"]
    spent = float(events[-1]["t"] - begun[-1])
    a_row = [event["seconds"] / event["rows"] for event in results if event.get("rows")]
    written = sum(event.get("rows", 0) for event in results)
    more = answers * len(a_row) - written
    return spent + (max(0, more) * fmean(a_row) if a_row else 0.0)


def _peak(events: Sequence[Event], name: str) -> int | None:
    found = [e[name] for e in events if e["kind"] == "memory" and e.get(name) is not None]
    return max(found, default=None)
