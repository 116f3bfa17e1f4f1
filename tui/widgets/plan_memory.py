"""The memory of the device that a run would take: a bar to scale that moves with the readings."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from core.hardware.facts import NA
from core.hardware.machine import GpuProcess, Machine
from core.planning.candidates import Candidate
from core.text import printable
from core.units import GIB, bytes_text
from tui.widgets.block import Block

MOST_OVERSHOOT = 1.5
"""How far beyond the memory's end the bar goes; more than that is only in the number."""
Part = str | tuple[str, str]
WORTH_NAMING = GIB // 4
"""What processes must hold together for being named."""


class MemoryBar(Block):
    """Used, this run, left; it moves with the readings and with the highlighted row."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._machine: Machine | None = None
        self._candidate: Candidate | None = None

    def show(self, machine: Machine | None, candidate: Candidate | None) -> None:
        self._machine, self._candidate = machine, candidate
        self.update()

    def build(self, width: int) -> list[Content]:
        if self._machine is None:
            return [Content.styled("Reading the machine …", "$text-muted"), Content("")]
        return memory_lines(self._machine, self._candidate, width)


def memory_lines(machine: Machine, candidate: Candidate | None, width: int) -> list[Content]:
    """The numbers, the bar below them, and who holds what is used where that is known."""
    names, used, total, processes = _device(machine, candidate.basis.gpus if candidate else 1)
    if used is None or not total:
        return [Content(f"{names[0]}: its memory cannot be read."), Content("")]
    peak = candidate.prediction.peak if candidate else 0
    high = max(peak, candidate.prediction.high) if candidate else 0
    head = _head(names, used, peak, high, total, width)
    lines = [head, _bar(used, peak, high, total, width)]
    holders = holders_text(processes)
    if not holders:
        return lines
    held = Content.assemble(
        (holders, "$text-muted"), ("   i", "bold $accent"), (" all readings", "$text-muted")
    )
    if head.cell_length + 3 + held.cell_length <= width:
        return [head + Content("   ") + held, lines[1]]
    return [*lines, held]


def _bar(used: int, peak: int, high: int, total: int, width: int) -> Content:
    """`═` used, `━` the run, `╌` what it may need beyond that, `─` left. What lies beyond the
    memory's end is red."""
    scale = min(max(total, used + high), MOST_OVERSHOOT * total)
    full, start, taken, most = (
        min(width, round(size / scale * width)) for size in (total, used, used + peak, used + high)
    )
    inside, edge = min(taken, full), max(taken, full)
    return Content.assemble(
        ("═" * min(start, full), "$text-muted"),
        ("━" * (inside - start), "$accent"),
        ("╍" * (taken - full), "$error"),
        ("╌" * (min(most, full) - inside), "$accent"),
        ("╌" * (most - edge), "$error"),
        ("─" * (full - max(most, start)), "$border"),
    )


def _head(names: Sequence[str], used: int, peak: int, high: int, total: int, width: int) -> Content:
    """The longest wording there is room for: the device's name goes before the `╌`."""
    plain = _words(used, peak, high, total)
    whole = plain + Content.styled(f"of {gib(total)} GiB", "$text-muted")
    most = _words(used, peak, high, total, most=True) + whole[plain.cell_length :]
    wordings = [(name, most) for name in names[:-1]] + [(name, whole) for name in names]
    for name, words in wordings:
        title = Content.styled(f"{name}   ", "bold")
        if title.cell_length + words.cell_length <= width:
            return title + words
    return whole if whole.cell_length <= width else plain


def _words(used: int, peak: int, high: int, total: int, *, most: bool = False) -> Content:
    left, least = total - used - peak, total - used - high
    run: list[Part] = [("━", "$accent"), f" this run {gib(peak)}   "] if peak else []
    more: list[Part] = [("╌", "$accent" if least >= 0 else "$error"), f" to {gib(high)}   "]
    rest: list[Part] = [("─", "$border"), f" left {gib(left)}   "]
    if left < 0:
        rest = [("╍", "$error"), f" {gib(-left)} too much   "]
    elif least < 0:
        rest = [("╌", "$error"), f" up to {gib(-least)} too much   "]
    return Content.assemble(
        ("═", "$text-muted"),
        f" used {gib(used)}   ",
        *run,
        *(more if most and peak else []),
        *rest,
    )


def _device(
    machine: Machine, gpus: int
) -> tuple[list[str], int | None, int | None, tuple[GpuProcess, ...]]:
    """What the run would take: its names, the longest first, its memory and who is on it. Of
    several GPUs the fullest, which decides."""
    together = machine.cards()[:gpus]
    gpu = together[-1] if gpus > 1 and together else machine.best_gpu()
    if gpu is None:
        return ["RAM", ""], machine.ram_total - machine.ram_available, machine.ram_total, ()
    name = printable(gpu.name or "GPU", single_line=True).removeprefix("NVIDIA ")
    used = gpu.total - gpu.free if gpu.total is not None and gpu.free is not None else None
    names = [f"GPU {gpu.index} {name}", name, f"GPU {gpu.index}"]
    return names, used, gpu.total, gpu.processes


def holders_text(processes: Sequence[GpuProcess]) -> str:
    """Who holds what is used: this program and its runs, and others. Empty where it is little."""
    words = []
    for ours in (False, True):
        some = [process for process in processes if process.ours is ours]
        known = [process.memory for process in some if process.memory is not None]
        if not some or (len(known) == len(some) and sum(known) < WORTH_NAMING):
            continue
        who = "TuneDeck" if ours else f"{len(some)} other process{'es' if len(some) > 1 else ''}"
        hold = "holds" if ours or len(some) == 1 else "hold"
        size = bytes_text(sum(known)) if len(known) == len(some) else NA
        words.append(f"{who} {hold} {size}")
    return ", ".join(words)


def gib(size: float) -> str:
    """GiB with three figures."""
    value = size / GIB
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"
