"""The machine, a line for each thing that can run out, its bar to scale."""

from __future__ import annotations

from textual.content import Content

from core.hardware.machine import Gpu, Machine
from core.text import printable
from core.units import GIB, MISSING
from tui.widgets.bars import bar
from tui.widgets.block import Block

LABEL, AMOUNT, BUSY, HEAT, POWER = 6, 15, 5, 5, 9
LEAST_BAR = 12
LEAST_NAME, MOST_NAME = 18, 40
POWER_NEEDS = 92


class MachineMeters(Block):
    """GPUs (memory, utilisation, temperature, power), then CPU, RAM and disk."""

    MOST_GPUS = 8
    DEFAULT_CSS = "MachineMeters { height: auto; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._machine: Machine | None = None

    def show(self, machine: Machine) -> None:
        """Take a reading; what it does not change is not repainted."""
        self._machine = machine
        self.update()

    def build(self, width: int) -> list[Content]:
        machine = self._machine
        if machine is None:
            return [_title("Machine"), Content.styled("  Reading the machine …", "$text-muted")]
        layout = Layout(width, bool(machine.gpus))
        shown = machine.gpus[: self.MOST_GPUS]
        lines = [layout.header()]
        lines += [layout.gpu(gpu) for gpu in shown]
        if len(machine.gpus) > len(shown):
            lines.append(
                Content.styled(f"  … {len(machine.gpus) - len(shown)} more", "$text-muted")
            )
        lines += _why_no_gpu(machine)
        return [*lines, layout.cpu(machine), layout.ram(machine), layout.disk(machine)]


class Layout:
    """Where the columns stand at a width."""

    def __init__(self, width: int, with_gpus: bool) -> None:
        self._with_gpus = with_gpus
        self._power = POWER if width >= POWER_NEEDS else 5
        right = AMOUNT + 2 + BUSY + (2 + HEAT + 2 + self._power if with_gpus else 0)
        room = width - 2 - LABEL - 2 - 2 - right
        self._name = max(LEAST_NAME, min(MOST_NAME, room - 24))
        self._bar = max(LEAST_BAR, room - self._name)

    def header(self) -> Content:
        start = 2 + LABEL + self._name + 2 + self._bar + 2
        line = _title("Machine").pad_right(start - len("Machine"))
        titles = f"{'':>{AMOUNT}}  {'busy':>{BUSY}}"
        if self._with_gpus:
            titles += f"  {'heat':>{HEAT}}  {'power':>{self._power}}"
        return line + Content.styled(titles, "$text-muted")

    def gpu(self, gpu: Gpu) -> Content:
        share = gpu.used / gpu.total if gpu.used is not None and gpu.total else None
        heat = MISSING if gpu.temperature is None else f"{gpu.temperature} °C"
        line = self._line(
            f"GPU {gpu.index}",
            (gpu.name or "NVIDIA GPU").removeprefix("NVIDIA "),
            share,
            f"{_gib(gpu.used)}/{_gib(gpu.total)} GiB",
            _percent(gpu.utilisation),
        )
        return line + Content(f"  {heat:>{HEAT}}  {self._watts(gpu):>{self._power}}")

    def cpu(self, machine: Machine) -> Content:
        share = None if machine.cpu_percent is None else machine.cpu_percent / 100
        cores = f"{machine.cores} core{'s' if machine.cores != 1 else ''}"
        return self._line("CPU", machine.cpu_name, share, cores, _percent(machine.cpu_percent))

    def ram(self, machine: Machine) -> Content:
        used = machine.ram_total - machine.ram_available
        share = used / machine.ram_total if machine.ram_total else None
        return self._line("RAM", "", share, f"{_gib(used)}/{_gib(machine.ram_total)} GiB", "")

    def disk(self, machine: Machine) -> Content:
        total, free = machine.disk_total, machine.disk_free
        share = 1 - free / total if total and free is not None else None
        return self._line("Disk", "", share, f"{_gib(free)} GiB free", "")

    def _line(self, label: str, name: str, share: float | None, amount: str, busy: str) -> Content:
        shown = Content(printable(name, single_line=True)).truncate(self._name, ellipsis=True)
        return Content.assemble(
            "  ",
            (f"{label:<{LABEL}}", "$text-muted"),
            shown.pad_right(self._name - shown.cell_length + 2),
            bar(share, self._bar),
            f"  {amount:>{AMOUNT}}  {busy:>{BUSY}}",
        )

    def _watts(self, gpu: Gpu) -> str:
        if gpu.power is None:
            return MISSING
        with_limit = gpu.power_limit is not None and self._power >= POWER
        return f"{gpu.power:.0f}/{gpu.power_limit:.0f} W" if with_limit else f"{gpu.power:.0f} W"


def _why_no_gpu(machine: Machine) -> list[Content]:
    if machine.gpus:
        return []
    note = printable(machine.gpu_note or "no NVIDIA GPU", single_line=True)
    return [
        Content.assemble("  ", ("GPU   ", "$text-muted"), f"{note[:1].upper()}{note[1:]}. ")
        + Content.styled("Small models train on the CPU.", "$text-muted")
    ]


def _title(text: str) -> Content:
    return Content.styled(text, "bold $text-muted")


def _gib(value: int | None) -> str:
    return MISSING if value is None else f"{value / GIB:.1f}"


def _percent(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0f} %"
