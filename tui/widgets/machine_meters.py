"""The machine, a line for each thing that can run out, its bar to scale."""

from __future__ import annotations

from textual.content import Content

from core.hardware.facts import NA, slowed_seriously
from core.hardware.machine import Gpu, Machine
from core.text import printable
from core.units import GIB
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
        for gpu in shown:
            lines.append(layout.gpu(gpu))
            lines += [layout.slice(part, number) for number, part in enumerate(gpu.slices)]
        if len(machine.gpus) > len(shown):
            lines.append(
                Content.styled(f"  … {len(machine.gpus) - len(shown)} more", "$text-muted")
            )
        lines += _notes(machine, width)
        return [*lines, layout.cpu(machine), layout.ram(machine), *layout.disks(machine)]


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
        hint = Content.assemble(("  i", "bold $accent"), (" all readings", "$text-muted"))
        line = _title("Machine") + hint
        line = line.pad_right(start - line.cell_length)
        titles = f"{'':>{AMOUNT}}  {'busy':>{BUSY}}"
        if self._with_gpus:
            titles += f"  {'heat':>{HEAT}}  {'power':>{self._power}}"
        return line + Content.styled(titles, "$text-muted")

    def gpu(self, gpu: Gpu) -> Content:
        heat = NA if gpu.temperature is None else f"{gpu.temperature} °C"
        hot = bool(slowed_seriously(gpu))
        line = self._line(
            f"GPU {gpu.index}",
            (gpu.name or "name N/A").removeprefix("NVIDIA ") + ("" if gpu.visible else " (hidden)"),
            _share(gpu),
            memory(gpu),
            _percent(gpu.utilisation),
        )
        heat_style = "bold $warning" if hot else ""
        power = f"  {self._watts(gpu):>{self._power}}"
        return line + Content.assemble((f"  {heat:>{HEAT}}", heat_style), power)

    def slice(self, part: Gpu, number: int) -> Content:
        """A part of a card: memory is all it has of its own."""
        name = (part.name or "name N/A").rsplit("MIG ", 1)[-1]
        hidden = "" if part.visible else " (hidden)"
        return self._line(f" ·{part.index}.{number}", f"MIG {name}{hidden}", _share(part),
                          memory(part), "")  # fmt: skip

    def cpu(self, machine: Machine) -> Content:
        share = None if machine.cpu_percent is None else machine.cpu_percent / 100
        cores = f"{machine.cores} core{'s' if machine.cores != 1 else ''}"
        return self._line("CPU", machine.cpu_name, share, cores, _percent(machine.cpu_percent))

    def ram(self, machine: Machine) -> Content:
        used = machine.ram_total - machine.ram_available
        share = used / machine.ram_total if machine.ram_total else None
        return self._line("RAM", "", share, f"{_gib(used)}/{_gib(machine.ram_total)} GiB", "")

    def disks(self, machine: Machine) -> list[Content]:
        """That of the runs, and that of the models where it is another one."""
        runs = self._disk("", machine.disk_total, machine.disk_free)
        if machine.cache_total in (None, machine.disk_total):
            return [runs]
        models = self._disk("downloaded models", machine.cache_total, machine.cache_free)
        return [self._disk("runs", machine.disk_total, machine.disk_free), models]

    def _disk(self, name: str, total: int | None, free: int | None) -> Content:
        share = 1 - free / total if total and free is not None else None
        return self._line("Disk", name, share, f"{_gib(free)} GiB free", "")

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
            return NA
        with_limit = gpu.power_limit is not None and self._power >= POWER
        return f"{gpu.power:.0f}/{gpu.power_limit:.0f} W" if with_limit else f"{gpu.power:.0f} W"


def memory(gpu: Gpu) -> str:
    """Used of total, in the width of a column."""
    if gpu.used is None:
        return NA if gpu.total is None else f"{NA} of {_gib(gpu.total)} GiB"
    return f"{_gib(gpu.used)}/{_gib(gpu.total)} GiB"


def _share(gpu: Gpu) -> float | None:
    return gpu.used / gpu.total if gpu.used is not None and gpu.total else None


def _notes(machine: Machine, width: int) -> list[Content]:
    """Why there is no GPU, or what is wrong with one."""
    note = printable(machine.gpu_note, single_line=True)
    if machine.gpus:
        hot = [
            f"GPU {gpu.index} is slowed by {' and '.join(reasons)}"
            for gpu in machine.gpus
            if (reasons := slowed_seriously(gpu))
        ]
        text = "; ".join([*([note] if note else []), *hot])
        return (
            [Content.styled(f"        {text[:1].upper()}{text[1:]}.", "$warning")] if text else []
        )
    note = note or "no NVIDIA GPU"
    why = Content.assemble("  ", ("GPU   ", "$text-muted"), f"{note[:1].upper()}{note[1:]}.")
    what = Content.styled("Small models train on the CPU.", "$text-muted")
    if why.cell_length + 1 + what.cell_length <= width:
        return [why + Content(" ") + what]
    return [why, Content(" " * 8) + what]


def _title(text: str) -> Content:
    return Content.styled(text, "bold $text-muted")


def _gib(value: int | None) -> str:
    return NA if value is None else f"{value / GIB:.1f}"


def _percent(value: float | None) -> str:
    return NA if value is None else f"{value:.0f} %"
