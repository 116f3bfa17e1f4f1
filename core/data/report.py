"""What inspection finds: a report of plain values, the same for the app, the CLI and `--json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from core.data.examples import FormatName

Severity = Literal["error", "warning", "info"]
MAX_ROWS_LISTED = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of finding. `rows` are 1-based record numbers, at most the first 20."""

    code: str
    severity: Severity
    count: int
    rows: tuple[int, ...]
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Token counts with the chosen model's tokenizer; `histogram` holds (upper bound, rows).

    They are of `counted_rows` rows. Where that is a sample, `total`, `trained` and
    `truncated_rows` are scaled up to all rows, and `margin` is how far a share (of truncated
    rows, or up to a percentile) may be off, 95 times in 100; otherwise it is 0. `cut_at` says for
    usual values of max_length how many rows they would cut; `recommended_length` is the smallest
    that cuts one in a hundred at most.
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


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a pass over a source. `rows` is always the sum over `ledger`."""

    source: str
    format: FormatName
    rows: int
    usable: int
    ledger: dict[str, int] = field(default_factory=dict)
    tokens: TokenStatistics | None = None
    problems: tuple[Problem, ...] = ()
    error: str | None = None
    complete: bool = True

    def as_json(self) -> dict[str, Any]:
        """The shape that `inspect --json` promises (DESIGN: JSON shapes)."""
        from dataclasses import asdict

        tree = asdict(self)
        for problem in tree["problems"]:
            problem["rows"] = list(problem["rows"])
        tree["problems"] = list(tree["problems"])
        tree.pop("complete")
        return tree
