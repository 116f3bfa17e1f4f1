"""One line on top of every place: where you are, where you can go, how the machine is."""

from __future__ import annotations

from collections.abc import Iterator

from textual.app import RenderResult
from textual.content import Content
from textual.events import Click
from textual.reactive import reactive
from textual.widget import Widget

from core.hardware.machine import Gpu, Machine
from core.text import printable
from core.units import GIB

PLACES = ("home", "data", "plan", "train", "result", "chat")
GAP = 2


class TopBar(Widget):
    """The places with their number keys on the left, the machine on the right."""

    DEFAULT_CSS = """
    TopBar { dock: top; height: 1; background: $panel; color: $text-muted; padding: 0 1; }
    """

    summary: reactive[str] = reactive("")
    """The machine in a few words. A reading that changes none of them repaints nothing."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place
        self._machine: Machine | None = None

    @property
    def machine(self) -> Machine | None:
        """The latest reading, or None before the first."""
        return self._machine

    @machine.setter
    def machine(self, machine: Machine | None) -> None:
        self._machine = machine
        self._summarise()

    def on_resize(self) -> None:
        self._summarise()

    def render(self) -> RenderResult:
        left = Content(" " * GAP).join(
            Content.styled(text, "bold underline $accent" if place == self._place else "")
            for place, text in _labels()
        )
        gap = max(1, self.size.width - left.cell_length - Content(self.summary).cell_length)
        return left + Content(" " * gap) + Content(self.summary)

    def on_click(self, event: Click) -> None:
        """The places can be clicked where there is a mouse."""
        position = 0
        for place, text in _labels():
            if position <= event.x - 1 < position + len(text):
                self.app.switch_mode(place)
            position += len(text) + GAP

    def _summarise(self) -> None:
        taken = sum(len(text) + GAP for _, text in _labels())
        self.summary = machine_summary(self._machine, self.size.width - taken)


def _labels() -> Iterator[tuple[str, str]]:
    return ((place, f"{number} {place.capitalize()}") for number, place in enumerate(PLACES, 1))


def machine_summary(machine: Machine | None, width: int) -> str:
    """The machine in at most `width` characters: the longest of a few wordings that fits."""
    if machine is None:
        return ""
    used = (machine.ram_total - machine.ram_available) / GIB
    cpu = "–" if machine.cpu_percent is None else f"{machine.cpu_percent:.0f}"
    ram = f"RAM {used:.1f}/{machine.ram_total / GIB:.0f} GiB"
    if machine.gpus:
        gpu = machine.gpus[0]
        more = f"  +{len(machine.gpus) - 1}" if len(machine.gpus) > 1 else ""
        name = printable(gpu.name or "GPU", single_line=True).removeprefix("NVIDIA ")
        memory = f"{gpu_memory(gpu)}{more}"
        wordings = [f"{name} {memory}  {ram}", f"GPU {memory}  {ram}", f"GPU {memory}"]
    else:
        wordings = [f"no GPU  CPU {cpu:>3} %  {ram}", f"no GPU  {ram}", "no GPU"]
    return next((text for text in wordings if len(text) <= width), "")


def gpu_memory(gpu: Gpu) -> str:
    """`used/total GiB` of a GPU, with a dash for what cannot be read."""
    used = "–" if gpu.used is None else f"{gpu.used / GIB:.1f}"
    total = "–" if gpu.total is None else f"{gpu.total / GIB:.0f}"
    return f"{used}/{total} GiB"
