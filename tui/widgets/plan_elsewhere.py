"""The highlighted run elsewhere: on GPUs that one could rent, and at managed services."""

from __future__ import annotations

from collections.abc import Sequence

from textual.content import Content

from core.planning.calibration import Measurement
from core.planning.candidates import Candidate
from core.planning.elsewhere import Managed, Rented, managed, rented, worth_it
from core.planning.gpus import prices_dated
from core.text import clip
from core.units import dollars_text, span_text
from tui.widgets.block import Block
from tui.widgets.plan_blocks import beside

NAME, TIME = 12, 15
TWO_COLUMNS_FROM = 70


class Elsewhere(Block):
    """Reckoned for the candidate it is given; a hidden one is given none."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._candidate: Candidate | None = None
        self._rented: tuple[Rented, ...] = ()
        self._managed: tuple[Managed, ...] = ()

    def show(self, candidate: Candidate | None, measured: Sequence[Measurement]) -> None:
        """Show where else this one could run."""
        if candidate != self._candidate:
            self._candidate = candidate
            self._rented = rented(candidate, measured) if candidate else ()
            self._managed = managed(candidate) if candidate else ()
        self.update()

    def build(self, width: int) -> list[Content]:
        if self._candidate is None:
            return []
        if width >= TWO_COLUMNS_FROM:
            left = self._gpu_lines(width // 2)
            edge = max(line.cell_length for line in left) + 3
            return beside(left, self._service_lines(width - edge), width)
        return [*self._gpu_lines(width), Content(""), *self._service_lines(width)]

    def _gpu_lines(self, width: int) -> list[Content]:
        fitting = [one for one in self._rented if one.fits]
        lines = [_title("On a rented GPU", f"prices of {prices_dated()}")]
        if not fitting:
            lines.append(Content.styled("It fits on none that is usually rented.", "$warning"))
        worth = worth_it(fitting)
        lines += [_rented_line(one, one in worth) for one in fitting]
        left_out = [one.gpu.name for one in self._rented if not one.fits]
        if left_out and fitting:
            text = f"too small: {', '.join(left_out)}"
            lines.append(Content.styled(clip(text, width), "$text-muted"))
        return lines

    def _service_lines(self, width: int) -> list[Content]:
        dates = ", ".join(sorted({one.dated for one in self._managed}))
        title = _title("At a service", f"prices of {dates}")
        return [title, *(line for one in self._managed for line in _managed_lines(one, width))]


def _title(text: str, note: str) -> Content:
    return Content.assemble((text, "bold $text-muted"), (f", {note}", "$text-muted"))


def _rented_line(one: Rented, worth: bool) -> Content:
    known = one.candidate.pace.how != "assumed"
    notes = [word for word, said in (("measured", known), ("your price", one.typed)) if said]
    line = Content.assemble(
        f"{clip(one.gpu.name, NAME):<{NAME}} {span_text(*one.seconds):>{TIME}}  ",
        dollars_text(*one.dollars),
        (f"  {', '.join(notes)}" if notes else "", "$success"),
    )
    return line.stylize("bold") if worth else line.stylize("$text-muted")


def _managed_lines(one: Managed, width: int) -> list[Content]:
    """A service with its price; below it the models that it trains."""
    name = max(NAME, min(NAME + TIME + 1, width - 16))
    money = dollars_text(*one.dollars)
    return [
        Content(f"{clip(one.service, name):<{name}}  {money}"),
        Content.styled(clip(f"  {one.models}", width), "$text-muted"),
    ]
