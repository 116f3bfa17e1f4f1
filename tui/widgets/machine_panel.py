"""The machine that a run works on, from the readings that the run itself keeps."""

from __future__ import annotations

from textual.content import Content

from core.hardware.machine import Machine
from core.runs.samples import GpuSample, SampleHistory
from core.runs.watch import RunView
from core.text import printable
from core.units import GIB, MISSING, known
from tui.widgets.bars import spark

LABEL = 6
VALUE = 15
LINES_A_GPU = 5


def machine_beside(view: RunView, machine: Machine | None, width: int, rows: int) -> list[Content]:
    """In a column: some lines with histories a GPU, or one each where rows are short."""
    latest = view.samples.latest
    if latest is None:
        return []
    title = "Machine" if view.state.alive else "Machine, as the run left it"
    lines = [Content.styled(title, "bold $foreground-muted")]
    roomy = len(latest.gpus) * LINES_A_GPU + 3 <= rows
    for gpu in latest.gpus:
        if roomy:
            lines += _gpu_lines(gpu, view.samples, machine, width)
        else:
            lines.append(_gpu_row(gpu, width))
    return lines + _host_lines(view.samples, machine, width)


def _host_lines(samples: SampleHistory, machine: Machine | None, width: int) -> list[Content]:
    total = machine.ram_total if machine else None
    used = [_used(sample.ram_available, total) for sample in samples.recent]
    busy = [sample.cpu for sample in samples.recent]
    room = width - LABEL - VALUE
    return [
        _trace("CPU", spark(busy, 100, room), _percent(busy[-1]), width),
        _trace("RAM", spark(used, total or 0, room), _share(used[-1], total), width),
    ]


def machine_below(view: RunView, machine: Machine | None, width: int) -> list[Content]:
    """The run's machine in one line a GPU, or one for the CPU."""
    latest = view.samples.latest
    if latest is None:
        return []
    if not latest.gpus:
        total = machine.ram_total if machine else None
        cpu = spark([sample.cpu for sample in view.samples.recent], 100, 16)
        ram = _share(_used(latest.ram_available, total), total)
        return [
            Content.assemble(
                ("CPU ", "$foreground-muted"),
                (cpu, "$primary"),
                f" {_percent(latest.cpu):>5}   ",
                ("RAM ", "$foreground-muted"),
                ram,
                ("   no GPU in use", "$foreground-muted"),
            ).truncate(width)
        ]
    return [_gpu_line(gpu, view.samples).truncate(width) for gpu in latest.gpus]


def _gpu_line(gpu: GpuSample, samples: SampleHistory) -> Content:
    return Content.assemble(
        (f"GPU {gpu.index} ", "$foreground-muted"),
        (spark(_utilisation(samples, gpu.index), 100, 12), "$primary"),
        f" {_percent(gpu.utilisation):>5}   ",
        ("VRAM ", "$foreground-muted"),
        _share(gpu.used, gpu.total),
        f"   {_degrees(gpu.temperature)}   {_watts(gpu.power)}",
    )


def _gpu_row(gpu: GpuSample, width: int) -> Content:
    busy, heat = _percent(gpu.utilisation), _degrees(gpu.temperature)
    value = f"{_share(gpu.used, gpu.total)}  {busy:>5}  {heat}"
    return _trace(f"GPU {gpu.index}", "", value, width)


def _gpu_lines(
    gpu: GpuSample, samples: SampleHistory, machine: Machine | None, width: int
) -> list[Content]:
    named = next((g for g in machine.gpus if g.index == gpu.index), None) if machine else None
    name = printable((named.name if named else None) or "", single_line=True)
    room = width - LABEL - VALUE
    memory = spark(_memory(samples, gpu.index), gpu.total or 0, room)
    busy = spark(_utilisation(samples, gpu.index), 100, room)
    heat = f"{_degrees(gpu.temperature)}  {_watts(gpu.power, named.power_limit if named else None)}"
    peak = samples.peak_used.get(gpu.index)
    return [
        Content(f"GPU {gpu.index} {name}").truncate(width, ellipsis=True),
        _trace("VRAM", memory, _share(gpu.used, gpu.total), width),
        _trace("util", busy, _percent(gpu.utilisation), width),
        _trace("peak", "", MISSING if peak is None else f"{peak / GIB:.1f} GiB", width),
        _trace("heat", "", heat, width),
    ]


def _trace(label: str, trace: str, value: str, width: int) -> Content:
    """A label, a small history and the present value at the right edge."""
    gap = max(0, width - LABEL - len(trace) - len(value))
    return Content.assemble(
        (f"{label:<{LABEL}}", "$foreground-muted"), (trace, "$primary"), " " * gap, value
    ).truncate(width)


def _memory(samples: SampleHistory, index: int) -> list[float | None]:
    return [g.used for s in samples.recent for g in s.gpus if g.index == index]


def _utilisation(samples: SampleHistory, index: int) -> list[float | None]:
    return [g.utilisation for s in samples.recent for g in s.gpus if g.index == index]


def _used(available: int | None, total: int | None) -> int | None:
    return None if available is None or total is None else total - available


def _share(used: float | None, total: float | None) -> str:
    left = MISSING if used is None else f"{used / GIB:.1f}"
    right = MISSING if total is None else f"{total / GIB:.0f}"
    return f"{left}/{right} GiB"


def _percent(value: float | None) -> str:
    return f"{value:.0f} %" if value is not None and known(value) else f"{MISSING} %"


def _degrees(value: float | None) -> str:
    return MISSING if value is None else f"{value:.0f} °C"


def _watts(value: float | None, limit: float | None = None) -> str:
    if value is None:
        return MISSING
    return f"{value:.0f} W" if limit is None else f"{value:.0f}/{limit:.0f} W"
