"""What the Plan screen says: the table's rows, the memory to scale, a candidate explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from textual.content import Content

from core.hardware.machine import Machine
from core.planning.calibration import pace_text
from core.planning.candidates import Candidate, Lever
from core.text import printable
from core.units import GIB, MISSING, bytes_text, count_text, parameters_text, span_text
from tui.widgets.line_table import Column, Row

COLUMNS = (
    Column("   Model", 17, grow=1),
    Column("Size", 5, right=True, needs=90),
    Column("Method", 6),
    Column("Batch", 5, right=True, needs=72),
    Column("Length", 6, right=True, needs=80),
    Column("Packed", 6, needs=98),
    Column("Peak", 8, right=True),
    Column("Fits", 5),
    Column("Time", 7, right=True),
    Column("Cost", 7, right=True, needs=62),
)
MOST_OVERSHOOT = 1.5
"""How far beyond the memory's end the bar goes; more than that is only in the number."""
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


def memory_lines(machine: Machine, candidate: Candidate | None, width: int) -> list[Content]:
    """Used, this run, left: a bar to scale and the numbers over it."""
    names, used, total = _device(machine, candidate.basis.gpus if candidate else 1)
    if used is None or total is None:
        return [Content(f"{names[0]}: its memory cannot be read."), Content("")]
    peak = candidate.prediction.peak if candidate else 0
    scale = min(max(total, used + peak), MOST_OVERSHOOT * total)
    full = round(total / scale * width)
    taken = min(width, round((used + peak) / scale * width))
    start = round(used / scale * width)
    bar = Content.assemble(
        ("═" * start, "$text-muted"),
        ("━" * (min(taken, full) - start), "$accent"),
        ("╍" * (taken - full), "$error"),
        ("─" * (full - taken), "$border"),
    )
    words = _memory_words(used, total, peak)
    room = width - words.cell_length - 3
    title = next((text for text in names if len(text) <= room), "")
    return [Content.styled(f"{title}   ", "bold") + words, bar]


def _memory_words(used: int, total: int, peak: int) -> Content:
    left = total - used - peak
    return Content.assemble(
        ("═", "$text-muted"),
        f" used {gib(used)}   ",
        ("━", "$accent"),
        f" this run {gib(peak)}   ",
        ("─", "$border") if left >= 0 else ("╍", "$error"),
        f" left {gib(left)}   " if left >= 0 else f" {gib(-left)} too much   ",
        (f"of {gib(total)} GiB", "$text-muted"),
    )


def gib(size: float) -> str:
    """GiB with three figures."""
    value = size / GIB
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _device(machine: Machine, gpus: int) -> tuple[list[str], int | None, int | None]:
    """What the run would take: its names, the longest first, and its memory. Of several GPUs the
    fullest, which decides."""
    together = machine.cards()[:gpus]
    gpu = together[-1] if gpus > 1 and together else machine.best_gpu()
    if gpu is None:
        return ["RAM"], machine.ram_total - machine.ram_available, machine.ram_total
    name = printable(gpu.name or "GPU", single_line=True).removeprefix("NVIDIA ")
    used = gpu.total - gpu.free if gpu.total is not None and gpu.free is not None else None
    return [f"GPU {gpu.index} {name}", name, f"GPU {gpu.index}"], used, gpu.total


def verdict(candidate: Candidate) -> Content:
    """Whether it fits, with its numbers."""
    fits = ("✓ fits", "bold $success") if candidate.fits else ("✗ does not fit", "bold $error")
    peak, free = gib(candidate.prediction.peak), gib(candidate.basis.free_bytes)
    return Content.assemble(fits, f": peak {peak} of {free} GiB free")


def span_line(candidate: Candidate) -> Content:
    """The interval that holds the peak 95 times in 100, and how it was found."""
    prediction = candidate.prediction
    text = f"between {gib(prediction.low)} and {gib(prediction.high)} GiB ({prediction.how})"
    return Content.styled(text, "$text-muted")


def parts_lines(candidate: Candidate, width: int) -> list[Content]:
    """The peak's parts, which add up to it, each with a bar to one scale where there is room."""
    parts, peak = candidate.prediction.parts, max(1, candidate.prediction.peak)
    label = max(map(len, PART_WORDS.values()))
    room = min(40, width - label - 14)
    lines = []
    for name, words in PART_WORDS.items():
        size = getattr(parts, name)
        if name == "runtime" and not candidate.basis.on_gpu:
            words = "Python, torch, …"
        if size:
            bar = "  " + "━" * max(1, round(size / peak * room)) if room > 4 else ""
            lines.append(_part(words, size, label) + Content.styled(bar, "$accent"))
    return [*lines, _part("peak, the sum", candidate.prediction.peak, label).stylize("bold")]


def _part(words: str, size: int, label: int) -> Content:
    return Content.assemble((f"{words:<{label}}", "$text-muted"), f"  {size / GIB:>8.2f} GiB")


def time_lines(candidate: Candidate) -> list[Content]:
    """How long and how much, and between what."""
    if candidate.seconds is None:
        return [Content.styled("The device's speed is not known: no time is given.", "$text-muted")]
    cost = "" if candidate.dollars is None else f" and ${candidate.dollars:,.2f}"
    span = span_text(candidate.seconds_low, candidate.seconds_high)
    known = pace_text(candidate.pace).partition(":")[0]
    return [
        Content(f"about {about(candidate.seconds)[1:]}{cost}"),
        Content.styled(f"{span}, speed {known}", "$text-muted"),
    ]


def lever_lines(levers: Sequence[Lever], width: int) -> list[Content]:
    """What would make it smaller, the strongest first; what that costs where there is room."""
    if not levers:
        return [Content("No knob makes it small enough.")]
    lines = [Content.styled("What makes it smaller", "bold $text-muted")]
    for lever in levers:
        saves = f"−{gib(lever.saves)} GiB"
        lines.append(Content(f"{saves:>9}  {lever.text}"))
        if len(lever.costs) + 11 <= width:
            lines.append(Content.styled(f"{'':>11}{lever.costs}", "$text-muted"))
    return lines
