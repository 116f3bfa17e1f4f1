"""What inspection finds: a report of plain values, the same for the app, the CLI and `--json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from core.data.examples import FormatName

Severity = Literal["error", "warning", "info"]
MAX_ROWS_LISTED = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of finding. `rows` are 1-based record numbers, at most the first 20; `example` says
    what it is in the first of them (printable), where it shows in a row alone."""

    code: str
    severity: Severity
    count: int
    rows: tuple[int, ...]
    message: str
    remedy: str = ""
    example: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence to act on, the reason for it, and who found that out."""

    text: str
    why: str
    source: str


@dataclass(frozen=True, slots=True)
class Sample:
    """What was looked at where not every row is tokenised and compared: `rows` of `of`.

    `margin` bounds the error of every share that is taken from it, 95 times in 100. Of
    near-duplicates only the pairs are found that lie in the sample with both rows.
    """

    rows: int
    of: int
    margin: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the ledger cannot say where only a sample (`rows` of `of`) is tokenised: about how many
    of the rows that it calls usable are cut at max_length, and how many have no token to train on.
    Each may be off by `margin` (a share of `of`), 95 times in 100."""

    rows: int
    of: int
    truncated: int
    no_trained_tokens: int
    margin: float

    @property
    def margin_rows(self) -> int:
        return round(self.margin * self.of)


@dataclass(frozen=True, slots=True)
class Spread:
    """How something is spread over the rows."""

    p50: int
    p95: int
    max: int
    mean: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the usable rows look like, whatever the model.

    `turns` are those of a conversation, `responses` the characters of a row's last answer, both
    over all usable rows; `roles` counts turns. `languages` are shares of about 5,000 rows at most
    (`language_rows`), which may be off by 1.4 points, 95 times in 100.
    """

    turns: Spread
    responses: Spread
    roles: dict[str, int]
    languages: dict[str, float]
    language_rows: int


@dataclass(frozen=True, slots=True)
class Padding:
    """The share of a batch that is padding, at batches of 8 rows cut at max_length: in any
    order, with rows of like length together (as this trainer orders them), and packed end to end.
    """

    shuffled: float
    grouped: float
    packed: float


@dataclass(frozen=True, slots=True)
class Leakage:
    """How much of the data held out (`source`) is also in the data that are trained on.

    `exact` and `near` count rows of the held-out data, `numbers` are the first 20 of them.
    """

    source: str
    rows: int
    usable: int
    exact: int
    near: int
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Token counts with the chosen model's tokenizer; `histogram` holds (upper bound, rows).

    They are of `counted_rows` rows. Where that is a sample, `total`, `trained` and
    `truncated_rows` are scaled up to all rows; `margin` is how far a share (of truncated rows, or
    up to a percentile) may be off, and `total_margin` how far `total` (a share of it), 95 times in
    100; otherwise both are 0. `cut_at` says for usual values of max_length how many rows they
    would cut; `recommended_length` is the smallest that cuts one in a hundred at most.
    `rows` are all that would be encoded, `responses` the trained tokens of a row.
    """

    total: int
    trained: int
    p50: int
    p95: int
    p99: int
    max: int
    truncated_rows: int
    histogram: tuple[tuple[int, int], ...] = ()
    counted_rows: int = 0
    margin: float = 0.0
    cut_at: tuple[tuple[int, int], ...] = ()
    recommended_length: int = 0
    total_margin: float = 0.0
    rows: int = 0
    responses: Spread | None = None
    padding: Padding | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a pass over a source. `rows` is always the sum over `ledger`. Where not every
    row was tokenised, `estimate` says what the ledger then leaves among the usable rows."""

    source: str
    format: FormatName
    rows: int
    usable: int
    ledger: dict[str, int] = field(default_factory=dict)
    tokens: TokenStatistics | None = None
    problems: tuple[Problem, ...] = ()
    error: str | None = None
    complete: bool = True
    sample: Sample | None = None
    estimate: Estimate | None = None
    statistics: Statistics | None = None
    leakage: Leakage | None = None
    advice: tuple[Advice, ...] = ()
    held_out: tuple[str, ...] = ()
    """What the source itself sets apart for evaluation, by its names: sources of their own."""

    def as_json(self) -> dict[str, Any]:
        """What `inspect --json` says: the shape that is promised, and more keys beside it."""
        from dataclasses import asdict

        tree = asdict(self)
        for problem in tree["problems"]:
            problem["rows"] = list(problem["rows"])
        tree["problems"] = list(tree["problems"])
        tree.pop("complete")
        return tree


def merged_bins(bins: Sequence[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """At most `most` bins: neighbours are put together, the rows stay the same in sum."""
    step = -(-len(bins) // most)
    groups = [bins[at : at + step] for at in range(0, len(bins), step)]
    return [(group[-1][0], sum(rows for _, rows in group)) for group in groups]


def report_from_wire(tree: dict[str, Any]) -> Report:
    """A report that came as JSON, from another process."""
    made = {
        "tokens": _tokens(tree["tokens"]),
        "problems": tuple(
            Problem(**{**one, "rows": tuple(one["rows"])}) for one in tree["problems"]
        ),
        "sample": None if tree["sample"] is None else Sample(**tree["sample"]),
        "estimate": None if tree["estimate"] is None else Estimate(**tree["estimate"]),
        "statistics": _statistics(tree["statistics"]),
        "leakage": None if tree["leakage"] is None else leakage_from_wire(tree["leakage"]),
        "advice": tuple(Advice(**one) for one in tree["advice"]),
        "held_out": tuple(tree["held_out"]),
    }
    return Report(**{**tree, **made})


def _tokens(tree: dict[str, Any] | None) -> TokenStatistics | None:
    if tree is None:
        return None
    pairs = {name: tuple((bound, rows) for bound, rows in tree[name])
             for name in ("histogram", "cut_at")}  # fmt: skip
    responses = None if tree["responses"] is None else Spread(**tree["responses"])
    padding = None if tree["padding"] is None else Padding(**tree["padding"])
    return TokenStatistics(**{**tree, **pairs, "responses": responses, "padding": padding})


def _statistics(tree: dict[str, Any] | None) -> Statistics | None:
    if tree is None:
        return None
    spreads = {name: Spread(**tree[name]) for name in ("turns", "responses")}
    return Statistics(**{**tree, **spreads})


def leakage_from_wire(tree: dict[str, Any]) -> Leakage:
    return Leakage(**{**tree, "numbers": tuple(tree["numbers"])})
