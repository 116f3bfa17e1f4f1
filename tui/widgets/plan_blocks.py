"""The highlighted candidate explained, in a column of its own or below the table."""

from __future__ import annotations

from textual.content import Content

from core.planning.candidates import Candidate
from core.planning.levers import levers_for
from core.planning.retuning import retune
from core.planning.sources import sources
from core.text import printable
from core.units import bytes_text, parameters_text
from tui.widgets.block import Block
from tui.widgets.plan_lines import (
    lever_lines,
    parts_lines,
    span_line,
    time_lines,
    verdict,
)
from tui.widgets.plan_settings import setting_lines


class CandidateDetails(Block):
    """The highlighted candidate: whether it fits and why, its knobs, its parts or its levers."""

    SPARE = 20

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._candidate: Candidate | None = None
        self.brief = False
        self._built: tuple[Candidate, bool, int] | None = None
        self._lines: list[Content] = []

    def show(self, candidate: Candidate | None, brief: bool) -> None:
        """Show this one; `brief` leaves out what is in the table already."""
        self._candidate, self.brief = candidate, brief
        self.update()

    def build(self, width: int) -> list[Content]:
        """Asked for several times a key, and made once."""
        candidate = self._candidate
        if candidate is None:
            return []
        built = self._built
        if built is None or built[0] is not candidate or built[1:] != (self.brief, width):
            make = self._brief if self.brief else self._whole
            self._built, self._lines = (candidate, self.brief, width), make(candidate, width)
        return self._lines

    def _whole(self, candidate: Candidate, width: int) -> list[Content]:
        levers = [] if candidate.fits else [*_levers(candidate, width), Content("")]
        return [
            Content.styled(printable(candidate.model.id, single_line=True), "bold"),
            _size_line(candidate),
            verdict(candidate),
            span_line(candidate, width),
            *time_lines(candidate),
            Content(""),
            *setting_lines(candidate),
            Content(""),
            *levers,
            *parts_lines(candidate, width),
            Content(""),
            *_wrapped(_sentence(candidate.why), width),
            *_wrapped(_about(candidate), width),
            Content(""),
            *source_lines(candidate, width),
        ]

    def _brief(self, candidate: Candidate, width: int) -> list[Content]:
        """Below a table on a low screen: the knobs, and beside them what the memory goes to."""
        head, left = verdict(candidate), setting_lines(candidate)
        span = span_line(candidate, width - head.cell_length - 2)
        room = width - edge_of(left)
        right = parts_lines(candidate, 0) if candidate.fits else _levers(candidate, room)
        knobs = beside(left, right, width)
        return [head + Content("  ") + span, *knobs, Content(""), *source_lines(candidate, width)]


def source_lines(candidate: Candidate, width: int) -> list[Content]:
    """Where the proposed values are from."""
    lines = [Content.styled("Where the values are from", "bold $text-muted")]
    for key, text in sources(candidate).items():
        lines += _wrapped(f"{key.replace('_', ' ')}: {text}", width)
    return lines


def _levers(candidate: Candidate, width: int) -> list[Content]:
    return lever_lines(levers_for(candidate, retune), width)


def beside(left: list[Content], right: list[Content], width: int) -> list[Content]:
    """Beside one another, where the screen is low."""
    edge = edge_of(left)
    if edge + 30 > width:
        return left
    rows = max(len(left), len(right))
    left = [*left, *[Content("")] * (rows - len(left))]
    right = [*right, *[Content("")] * (rows - len(right))]
    return [a.pad_right(edge - a.cell_length) + b for a, b in zip(left, right, strict=True)]


def edge_of(left: list[Content]) -> int:
    """Where lines begin that stand beside these."""
    return max(line.cell_length for line in left) + 2


def _size_line(candidate: Candidate) -> Content:
    """How large the model is, and whether it has to be fetched first."""
    model = candidate.model
    size = f"{parameters_text(model.shape.parameters)} parameters, "
    weights = bytes_text(2 * model.shape.parameters)  # the hub has them in 16 bits
    where = "on this machine" if model.cached else f"{weights} to download"
    return Content.assemble((size, "$text-muted"), (where, "$success" if model.cached else ""))


def _about(candidate: Candidate) -> str:
    model = candidate.model
    parts = [model.licence and _licence(candidate)]
    if model.languages:
        parts.append(f"Languages: {model.languages}")
    if model.gated and not model.cached:
        parts.append("It has to be accepted on the hub first")
    return ". ".join(part for part in parts if part) + ("." if any(parts) else "")


def _licence(candidate: Candidate) -> str:
    model = candidate.model
    return f"Licence {model.licence}" + (f": {model.allows}" if model.allows else "")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _wrapped(text: str, width: int) -> list[Content]:
    import textwrap

    return [Content(line) for line in textwrap.wrap(printable(text), max(20, width))]
