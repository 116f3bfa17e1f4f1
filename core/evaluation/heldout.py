"""The held-out rows of a run, as they are measured: sequences for the loss, prompts to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.data.encoding import encode_prompt
from core.data.examples import Message
from core.data.prepared import Prepared
from core.data.tokenizer import Tokenizer
from core.data.training_rows import TokenRow
from core.errors import UserError

# Sequences that the loss is taken over, at most: beyond these the mean hardly moves.
LOSS_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Question:
    """A held-out prompt and the answer it should get. `shown` is its last turn's text."""

    number: int
    shown: str
    reference: str
    prompt_ids: list[int]
    reference_tokens: int


@dataclass(frozen=True, slots=True)
class HeldOutRows:
    """What a model is measured on."""

    sequences: Sequence[TokenRow]
    questions: Sequence[Question]

    def max_new_tokens(self, wanted: int | None) -> int:
        """Half as long again as the longest reference, and a little: room to go wrong in."""
        longest = max((each.reference_tokens for each in self.questions), default=0)
        return wanted or longest * 3 // 2 + 8


def held_out_rows(prepared: Prepared, tokenizer: Tokenizer, rows: int) -> HeldOutRows:
    """The first `rows` prompts and up to `LOSS_ROWS` sequences. UserError without any."""
    if not prepared.eval:
        raise UserError(
            "There are no held-out rows to measure on.",
            "Give data.eval or a data.eval_fraction above 0, and train again.",
        )
    questions = [
        Question(
            number=row.number,
            shown=_last_text(row.messages),
            reference=row.reference,
            prompt_ids=encode_prompt(row.messages, tokenizer, row.tools),
            reference_tokens=len(tokenizer.encode_text(row.reference)),
        )
        for row in prepared.held_out[:rows]
    ]
    return HeldOutRows(prepared.good_eval[:LOSS_ROWS], questions)


def _last_text(messages: Sequence[Message]) -> str:
    return str(messages[-1].get("content") or "") if messages else ""
