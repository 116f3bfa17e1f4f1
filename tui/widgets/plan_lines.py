"""What the Plan screen says: the table's rows, a candidate explained."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace

from textual.content import Content

from core.planning.calibration import pace_text
from core.planning.candidates import Candidate, Lever
from core.text import printable
from core.units import GIB, MISSING, bytes_text, count_text, parameters_text, span_text
from tui.widgets.line_table import Column, Row
from tui.widgets.plan_memory import gib

COLUMNS = (
    Column("   Model", 17, grow=1),
    Column("Size", 5, right=True, needs=90),
    Column("Method", 6),
    Column("Batch", 5, right=True, needs=74),
    Column("Length", 6, right=True, needs=80),
    Column("Packed", 6, needs=98),
    Column("Peak", 8, right=True),
    Column("Fits", 5),
    Column("Time", 7, right=True),
    Column("Cost", 7, right=True, needs=62),
)
PART_WORDS = {
    "weights": "base weights",
    "adapter": "adapter",
    "gradients": "gradients",
    "optimizer": "optimiser states",
    "activations": "activations",
    "loss": "loss",
    "workspace": "workspace",
    "runtime": "CUDA, libraries",
}
RUNTIME_ON_CPU = "Python, torch"
HERE = "•"
"""Marks a model that lies on this machine already."""


class CandidateRows:
    """Rows that are made once for each candidate: a knob that is turned costs one of them."""

    def __init__(self) -> None:
        self._made: dict[object, tuple[Candidate, tuple[bool, bool, int], Row]] = {}

    def row(self, key: object, candidate: Candidate, *, starred: bool, turned: bool, cells: int
            ) -> Row:  # fmt: skip
        """The row of the candidate that is called so; `cells` of it."""
        how = starred, turned, cells
        kept = self._made.get(key)
        if kept is None or kept[0] is not candidate or kept[1] != how:
            row = candidate_row(candidate, starred, turned)[:cells]
            kept = self._made[key] = candidate, how, row
        return kept[2]


def columns_for(candidates: Sequence[Candidate], priced: bool) -> tuple[Column, ...]:
    """Without the cost where no price is known; the method as wide as the longest there is."""
    widest = max([6, *(len(candidate.method) for candidate in candidates)])
    columns = (replace(one, width=widest) if one.title == "Method" else one for one in COLUMNS)
    return tuple(columns) if priced else tuple(columns)[:-1]


def candidate_row(candidate: Candidate, starred: bool, turned: bool) -> Row:
    """A model and a method with its settings, what it needs and what it takes. The star is hollow
    where the recommended settings were changed."""
    mark = (
        ("☆" if turned else "★", "$accent") if starred else ("~" if turned else " ", "$text-muted")
    )
    here = (f"{HERE} ", "$success") if candidate.model.cached else "  "
    name = candidate.model.id.rstrip("/").rsplit("/", 1)[-1]
    return (
        Content.assemble(mark, here, printable(name, single_line=True)),
        parameters_text(candidate.model.shape.parameters),
        candidate.method,
        f"{candidate.micro_batch}×{candidate.gradient_accumulation}",
        count_text(candidate.seq_length),
        "yes" if candidate.packed else "no",
        bytes_text(candidate.prediction.peak),
        fits_text(candidate.fits),
        about(candidate.seconds),
        MISSING if candidate.dollars is None else f"${candidate.dollars:,.2f}",
    )


def fits_text(fits: bool) -> Content:
    """A sign and a word, that differ without colour too."""
    return Content.styled("✓ yes", "$success") if fits else Content.styled("✗ no", "$error")


def about(seconds: float | None) -> str:
    """A time that is only known roughly, with no more digits than that deserves."""
    if seconds is None:
        return MISSING
    if seconds < 90:
        return f"~{max(1, round(seconds))} s"
    if seconds < 90 * 60:
        return f"~{round(seconds / 60)} min"
    return f"~{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"~{seconds / 86400:.1f} d"


def verdict(candidate: Candidate) -> Content:
    """Whether it fits, with its numbers."""
    fits = ("✓ fits", "bold $success") if candidate.fits else ("✗ does not fit", "bold $error")
    if not candidate.fits and candidate.prediction.peak <= candidate.basis.free_bytes:
        fits = ("✗ may not fit", "bold $error")
    peak, free = gib(candidate.prediction.peak), gib(candidate.basis.free_bytes)
    return Content.assemble(fits, f": peak {peak} of {free} GiB free")


def span_line(candidate: Candidate, width: int) -> Content:
    """The interval that holds the peak 95 times in 100, and how it was found."""
    prediction = candidate.prediction
    low, high, how = gib(prediction.low), gib(prediction.high), prediction.how
    text = f"between {low} and {high} GiB ({how})"
    return Content.styled(
        text if len(text) <= width else f"{low} to {high} GiB ({how})", "$text-muted"
    )


def parts_lines(candidate: Candidate, width: int) -> list[Content]:
    """The peak's parts, which add up to it, each with a bar to one scale where there is room."""
    parts, peak = candidate.prediction.parts, max(1, candidate.prediction.peak)
    label = max(map(len, PART_WORDS.values()))
    room = min(40, width - label - 14)
    lines = []
    for name, words in PART_WORDS.items():
        size = getattr(parts, name)
        if name == "runtime" and not candidate.basis.on_gpu:
            words = RUNTIME_ON_CPU
        if size:
            halves = round(2 * size / peak * room) if room > 4 else 0
            bar = "━" * (halves // 2) + "╸" * (halves % 2)
            lines.append(_part(words, size, label) + Content.styled(f"  {bar}", "$accent"))
    return [*lines, _part("peak, the sum", candidate.prediction.peak, label).stylize("bold")]


def _part(words: str, size: int, label: int) -> Content:
    amount = f"{size / GIB:.2f}" if size >= 0.005 * GIB else "< 0.01"
    return Content.assemble((f"{words:<{label}}", "$text-muted"), f"  {amount:>8} GiB")


def time_lines(candidate: Candidate) -> list[Content]:
    """How long and how much, and between what."""
    if candidate.seconds is None:
        return [Content.styled("The device's speed is not known: no time.", "$text-muted")]
    cost = "" if candidate.dollars is None else f" and ${candidate.dollars:,.2f}"
    span = span_text(candidate.seconds_low, candidate.seconds_high)
    known = pace_text(candidate.pace).partition(":")[0]
    return [
        Content(f"about {about(candidate.seconds)[1:]}{cost}"),
        Content.styled(f"{span}, speed {known}", "$text-muted"),
    ]


def lever_lines(levers: Sequence[Lever], width: int) -> list[Content]:
    """What would make it smaller, the strongest first, each with what that costs."""
    if not levers:
        return [Content("No knob makes it small enough.")]
    lines = [
        Content.assemble(("What makes it smaller", "bold $text-muted"), (", by GiB", "$text-muted"))
    ]
    numbers = [f"−{gib(lever.saves)}" for lever in levers]
    edge = max(map(len, numbers))
    for number, lever in zip(numbers, levers, strict=True):
        text = _beside_number(f"{number:>{edge}} ", lever.text, width)
        lines += [Content(line) for line in text]
        costs = _beside_number(" " * (edge + 1), lever.costs, width)
        lines += [Content.styled(line, "$text-muted") for line in costs]
    return lines


def _beside_number(start: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, max(20, width), initial_indent=start, subsequent_indent=" " * len(start)
    )
