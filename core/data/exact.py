"""One row exactly as the training sees it: every token, what happens to it, and why."""

from __future__ import annotations

from dataclasses import replace

from core.data.encoding import Encoded, TrainOn, encode, spans, truncate
from core.data.examples import Preference
from core.data.inspection import Inspection
from core.data.reasons import why_cut
from core.data.rows import RowTokens, TokenSequence
from core.data.tokenizer import Tokenizer
from core.data.verdict import Verdict
from core.errors import UserError
from core.text import printable

TOKENS_BEYOND = 2000
_SIDES = ("The chosen answer.", "The rejected answer (learned from by preference training only).")


def tokens_of(
    verdict: Verdict, tokenizer: Tokenizer, max_length: int, train_on: TrainOn
) -> RowTokens:
    """The training sequences of a row. UserError for one that cannot be used."""
    number, example = verdict.record.number, verdict.example
    if example is None:
        detail = printable(verdict.findings[0].detail, single_line=True)
        raise UserError(f"Row {number} is not usable: {detail}.")
    encoded = encode(example, tokenizer, None, train_on)
    if isinstance(example, Preference) and len(encoded) == len(_SIDES):
        encoded = [
            replace(one, notes=(side, *one.notes))
            for one, side in zip(encoded, _SIDES, strict=True)
        ]
    return RowTokens(number, tuple(_sequence(one, tokenizer, max_length) for one in encoded))


def _sequence(encoded: Encoded, tokenizer: Tokenizer, max_length: int) -> TokenSequence:
    kept = truncate(encoded, tokenizer, max_length)
    most = max_length + TOKENS_BEYOND
    head = replace(encoded, input_ids=encoded.input_ids[:most], labels=encoded.labels[:most])
    shown = tuple(
        replace(span, text=printable(span.text)) for span in spans(head, tokenizer, max_length)
    )
    reasons = (*kept.notes, *why_cut(encoded, max_length))
    notes = tuple(printable(note, single_line=True) for note in reasons)
    return TokenSequence(shown, len(encoded.input_ids), kept.trained, kept.cut, kept.stop, notes)


def row_of(inspection: Inspection, number: int) -> Verdict:
    """The row with this number, judged; the source is read up to it. UserError without one."""
    for record in inspection.source.records():
        if record.number == number:
            return inspection.judge.judge(record)
        if record.number > number:
            break
    raise UserError(f"There is no row {number:,} in {inspection.source.name}.")
