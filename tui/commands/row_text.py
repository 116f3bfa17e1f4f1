"""A row as the training sees it, as text: runs of tokens of one kind, a bar between tokens."""

from __future__ import annotations

from itertools import groupby

import click

from core.data.encoded import Span, SpanKind
from core.data.rows import RowTokens, TokenSequence
from core.text import cells, printable
from core.units import count_text

STYLES: dict[SpanKind, dict[str, object]] = {
    "trained": {"fg": "yellow", "bold": True},
    "context": {},
    "special": {"dim": True},
    "truncated": {"fg": "red"},
}
_LABEL = 11
_MOST = 4000


def row_lines(row: RowTokens, width: int) -> list[str]:
    """The sequences of a row. Meaning is in words; a terminal gets colours as well."""
    lines = [f"Row {count_text(row.number)} as the training sees it"]
    for number, sequence in enumerate(row.sequences, 1):
        many = len(row.sequences) > 1
        lines += ["", f"Sequence {number} of {len(row.sequences)}"] if many else []
        lines += [f"  {_counts(sequence)}", f"  {_stop(sequence)}"]
        lines += [f"  {printable(note, single_line=True)}" for note in sequence.notes]
        lines += ["", *_spans(sequence.spans[:_MOST], width)]
        if len(sequence.spans) > _MOST:
            lines.append(f"  … {count_text(len(sequence.spans) - _MOST)} more tokens")
    return lines


def _counts(sequence: TokenSequence) -> str:
    text = f"{count_text(sequence.total)} tokens, {count_text(sequence.trained)} trained"
    return text + (f", {count_text(sequence.cut)} cut off" if sequence.cut else "")


def _stop(sequence: TokenSequence) -> str:
    last = next((span.text for span in reversed(sequence.spans) if span.kind == "trained"), "")
    last = printable(last.strip(), single_line=True) or repr(last)
    if sequence.stop:
        return f"✓ learns to stop with {last}"
    if sequence.trained:
        return f"✗ does not learn to stop: {last} is the last trained token"
    return "✗ no token is trained"


def _spans(spans: tuple[Span, ...], width: int) -> list[str]:
    lines = []
    for kind, run in groupby(spans, key=lambda span: span.kind):
        text = "│".join(printable(span.text, single_line=True) for span in run)
        for number, piece in enumerate(_pieces(text, max(20, width - _LABEL - 3))):
            label = kind if not number else ""
            lines.append(f"  {label:<{_LABEL - 1}}" + click.style(piece, **STYLES[kind]))  # type: ignore[arg-type]
    return lines


def _pieces(text: str, width: int) -> list[str]:
    """The text in lines of at most so many cells."""
    pieces, used = [""], 0
    for char in text:
        if used + cells(char) > width:
            pieces.append("")
            used = 0
        pieces[-1] += char
        used += cells(char)
    return pieces
