"""What of the counted rows is trained on: it follows from their format and the objective."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.data.examples import FormatName
from core.data.report import Report
from core.errors import UserError
from core.objectives import ObjectiveName, refusal, suggestion

LONGER_ANSWER = 1.25
"""Of a pair both answers are counted together; the longer one is taken to be this much longer than
their mean, prompt included."""


@dataclass(frozen=True, slots=True)
class DataSize:
    """Rows and the tokens of a row, as the inspector counts them: of a pair, of both answers.

    `cut_at` says for usual lengths how many of the rows are longer; `padding` is the share of
    padding in batches of rows of like length, where it was counted.
    """

    rows: int
    tokens_per_row: float
    p95: int
    max_tokens: int
    cut_at: tuple[tuple[int, int], ...] = ()
    format: FormatName = "messages"
    padding: float | None = None


def size_of(report: Report) -> DataSize:
    """Of a report with tokens."""
    assert report.tokens is not None
    counted = report.tokens
    rows = max(1, counted.rows or report.usable)
    return DataSize(
        rows=report.usable,
        tokens_per_row=counted.total / rows,
        p95=counted.p95,
        max_tokens=counted.max,
        cut_at=counted.cut_at,
        format=report.format,
        padding=counted.padding.grouped if counted.padding else None,
    )


def usual_objective(found: FormatName) -> ObjectiveName:
    """What rows of a format are for."""
    usual: dict[FormatName, ObjectiveName] = {"preference": "dpo", "kto": "kto", "text": "pretrain"}
    return usual.get(found, "sft")


def trained_on(size: DataSize, objective: ObjectiveName) -> DataSize:
    """The rows that the objective makes of these, with the tokens of one sequence.

    UserError when it cannot learn from such rows.
    """
    if size.format != "unknown" and (why := refusal(objective, size.format)):
        raise UserError(f"{why}.", suggestion(size.format))
    if size.format != "preference":
        return size
    return replace(
        size,
        rows=2 * size.rows if objective == "kto" else size.rows,
        tokens_per_row=size.tokens_per_row / 2,
        p95=round(size.p95 / 2 * LONGER_ANSWER),
        max_tokens=round(size.max_tokens / 2 * LONGER_ANSWER),
        cut_at=(),
    )
