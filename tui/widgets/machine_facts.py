"""Everything that can be read of the machine: each GPU with its slices and processes, the host,
the training stack."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from core.hardware.facts import NA, Fact, gpu_facts, host_facts, process_text
from core.hardware.machine import Gpu, Machine
from core.text import printable
from tui.widgets.bars import bar
from tui.widgets.block import Block

LABEL = 14
TWO_COLUMNS_FROM = 84
MOST_PROCESSES = 8


class MachineFacts(Block):
    """As long as it takes; `show` repaints what has changed."""

    def __init__(self, stack: Sequence[Fact], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._stack = list(stack)
        self._machine: Machine | None = None

    def show(self, machine: Machine | None) -> None:
        """Take a reading."""
        self._machine = machine
        self.update()

    def build(self, width: int) -> list[Content]:
        machine = self._machine
        if machine is None:
            return [Content.styled("Reading the machine …", "$text-muted")]
        lines: list[Content] = []
        if machine.gpu_note:
            lines += [Content.styled(_sentence(machine.gpu_note), "$warning"), Content("")]
        for gpu in machine.gpus:
            lines += [*_gpu_lines(gpu, width), Content("")]
        lines += [_title("Host"), *_columns(host_facts(machine), width), Content("")]
        return [*lines, _title("Training stack"), *_columns(self._stack, width)]


def _gpu_lines(gpu: Gpu, width: int) -> list[Content]:
    name = printable(gpu.name or f"name {NA}", single_line=True)
    hidden = "" if gpu.visible else "   hidden by CUDA_VISIBLE_DEVICES"
    share = gpu.used / gpu.total if gpu.used is not None and gpu.total else None
    lines = [
        Content.assemble((f"GPU {gpu.index}  {name}", "bold"), (hidden, "$warning")),
        bar(share, min(width, 60)),
        *_columns(gpu_facts(gpu), width),
    ]
    for number, part in enumerate(gpu.slices):
        lines += _slice_lines(part, number, width)
    return lines + _process_lines(gpu)


def _slice_lines(part: Gpu, number: int, width: int) -> list[Content]:
    name = printable(part.name or f"name {NA}", single_line=True)
    hidden = "" if part.visible else "   hidden"
    title = Content.assemble(
        (f"  slice {number}  ", "$text-muted"), (name, "bold"), (hidden, "$warning")
    )
    facts = [fact for fact in gpu_facts(part) if fact[0] in ("memory", "UUID")]
    return [title, *_columns(facts, width), *_process_lines(part)]


def _process_lines(gpu: Gpu) -> list[Content]:
    shown = gpu.processes[:MOST_PROCESSES]
    lines = [_fact(("process", process_text(process))) for process in shown]
    if len(gpu.processes) > len(shown):
        lines.append(_fact(("", f"and {len(gpu.processes) - len(shown)} more")))
    return lines


def _columns(facts: Sequence[Fact], width: int) -> list[Content]:
    """In two columns where both are wide enough for what they hold."""
    lines = [_fact(fact) for fact in facts]
    rows = -(-len(lines) // 2)
    left, right = lines[:rows], lines[rows:]
    edge = max((line.cell_length for line in left), default=0) + 3
    most = max((line.cell_length for line in right), default=0)
    if width < TWO_COLUMNS_FROM or edge + most > width:
        return lines
    right += [Content("")] * (rows - len(right))
    return [a.pad_right(edge - a.cell_length) + b for a, b in zip(left, right, strict=True)]


def _fact(fact: Fact) -> Content:
    label, value = fact
    return Content.assemble(
        (f"  {label:<{LABEL}}", "$text-muted"), printable(value, single_line=True)
    )


def _title(text: str) -> Content:
    return Content.styled(text, "bold")


def _sentence(text: str) -> str:
    return f"{printable(text[:1].upper() + text[1:], single_line=True)}."
