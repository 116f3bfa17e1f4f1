"""What the Data screen is told: the plain values that cross from the data service to the app.

Every text in here has passed through `core.text.printable` and can be shown as it is (never as
markup). Row numbers are those of `Record.number`: 1-based, for JSONL the line number.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from core.data.encoded import Span
from core.data.examples import FormatName

Stage = Literal["opening", "checking", "tokens", "done", "cancelled"]


@dataclass(frozen=True, slots=True)
class RowPreview:
    """One line of the table: the last prompt and the last answer, clipped to a line each.

    `format` is that of this row. A row that could not be read has the reason in `prompt`.
    `problems` holds the codes found so far (those that compare rows come at the end of the pass).
    """

    number: int
    format: FormatName
    turns: int
    prompt: str
    answer: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """Some consecutive rows of the table. `total` counts the rows that are known so far and
    match the filter: the table's height at this moment. It is final when `complete`."""

    start: int
    total: int
    rows: tuple[RowPreview, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer to `open`, known from the first rows before the pass begins.

    `format` is `unknown` when no column is recognised; then `mapping` is a suggestion (role →
    column, empty when there is none) for the user to confirm by opening again with it.
    Otherwise `mapping` is the one in use (mostly empty). `bytes` is None for hub ids.
    """

    source: str
    files: tuple[str, ...]
    bytes: int | None
    format: FormatName
    columns: tuple[str, ...]
    mapping: dict[str, str]
    rows: tuple[RowPreview, ...]


@dataclass(frozen=True, slots=True)
class MappingTrial:
    """What a mapping would make of the first rows: `usable` of `tried`, some of them in `rows`."""

    format: FormatName
    tried: int
    usable: int
    rows: tuple[RowPreview, ...]


@dataclass(frozen=True, slots=True)
class CleanCopy:
    """A cleaned copy that has been written: rows kept, rows left out by the code of the reason.
    The file `list` names each of these."""

    file: str
    list: str
    kept: int
    removed: dict[str, int]


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a conversation as it is read: role and text (tool calls as JSON)."""

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class RowProblem:
    """Something wrong with one row, in words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RowDetail:
    """One row: where it lies (`file:line`), its source text, its turns, what is wrong with it."""

    number: int
    place: str
    raw: str
    turns: tuple[Turn, ...]
    problems: tuple[RowProblem, ...]


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """One training sequence of a row, token by token.

    `cut` tokens lie beyond max_length; their spans have the kind `truncated`, and at most 2,000
    of them are given. `stop` is whether the last trained token ends generation.
    """

    spans: tuple[Span, ...]
    total: int
    trained: int
    cut: int
    stop: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RowTokens:
    """What training sees of a row: mostly one sequence, more where a template rewrites history."""

    number: int
    sequences: tuple[TokenSequence, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the pass is. `problems` counts rows by code so far; `rows` are those checked."""

    stage: Stage = "opening"
    rows: int = 0
    known_rows: int = 0
    bytes: int = 0
    total_bytes: int | None = None
    seconds: float = 0.0
    problems: dict[str, int] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.stage in ("done", "cancelled")

    @property
    def rate(self) -> float | None:
        """Bytes a second."""
        return self.bytes / self.seconds if self.seconds > 0 and self.bytes else None

    @property
    def seconds_left(self) -> float | None:
        if self.rate is None or self.total_bytes is None:
            return None
        return max(0.0, (self.total_bytes - self.bytes) / self.rate)


def to_wire(value: Any) -> dict[str, Any]:
    """A message as a JSON object."""
    return asdict(value)


def preview_from_wire(tree: dict[str, Any]) -> RowPreview:
    return RowPreview(**{**tree, "problems": tuple(tree["problems"])})


def page_from_wire(tree: dict[str, Any]) -> Page:
    return Page(**{**tree, "rows": tuple(map(preview_from_wire, tree["rows"]))})


def opened_from_wire(tree: dict[str, Any]) -> Opened:
    rows = tuple(map(preview_from_wire, tree["rows"]))
    return Opened(
        **{**tree, "rows": rows, "files": tuple(tree["files"]), "columns": tuple(tree["columns"])}
    )


def trial_from_wire(tree: dict[str, Any]) -> MappingTrial:
    return MappingTrial(**{**tree, "rows": tuple(map(preview_from_wire, tree["rows"]))})


def detail_from_wire(tree: dict[str, Any]) -> RowDetail:
    turns = tuple(Turn(**turn) for turn in tree["turns"])
    problems = tuple(RowProblem(**problem) for problem in tree["problems"])
    return RowDetail(**{**tree, "turns": turns, "problems": problems})


def tokens_from_wire(tree: dict[str, Any]) -> RowTokens:
    sequences = tuple(
        TokenSequence(
            **{
                **sequence,
                "spans": tuple(Span(**span) for span in sequence["spans"]),
                "notes": tuple(sequence["notes"]),
            }
        )
        for sequence in tree["sequences"]
    )
    return RowTokens(tree["number"], sequences)
