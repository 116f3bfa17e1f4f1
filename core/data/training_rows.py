"""From a row's encoded sequences to what one objective trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from core.data.encoded import IGNORED, Encoded
from core.data.examples import Example, Judged, Preference
from core.objectives import ObjectiveName


@dataclass(frozen=True, slots=True)
class TokenRow:
    """What one row of a batch is made of, with the number of the row that it comes from.

    The second sequence is the rejected answer (DPO, ORPO), or the prompt with an answer that
    belongs to another (KTO, which measures by such pairs how far the model has moved); empty
    elsewhere. `desirable` is the judgement of the answer, where there is one. `reference` holds
    the log-probabilities of both sequences under the model before training, once they are known.
    """

    number: int
    input_ids: list[int]
    labels: list[int]
    second_ids: list[int] | None = None
    second_labels: list[int] | None = None
    desirable: bool | None = None
    reference: list[float] | None = None

    @property
    def tokens(self) -> int:
        """Tokens of both sequences."""
        return len(self.input_ids) + len(self.second_ids or ())

    @property
    def longest(self) -> int:
        """Tokens of the longer one."""
        return max(len(self.input_ids), len(self.second_ids or ()))

    @property
    def trained(self) -> int:
        """Tokens with a label, in both."""
        return sum(label != IGNORED for label in (*self.labels, *(self.second_labels or ())))


def training_rows(
    number: int, example: Example, encoded: Sequence[Encoded], objective: ObjectiveName
) -> list[TokenRow]:
    """What is trained on of a row that the inspector calls usable; nothing where there is nothing
    to learn. Supervised training learns the better answers, not those found worse or bad."""
    if isinstance(example, Preference):
        return _of_pair(number, encoded, objective)
    if isinstance(example, Judged):
        if objective == "kto":
            answers = [one for one in encoded if one.trained]
            return [_row(number, one, desirable=example.label) for one in answers]
        encoded = encoded if example.label else []
    if objective not in ("sft", "pretrain"):  # a row of another kind among those it learns from
        return []
    return [_row(number, one) for one in encoded if one.trained]


def _of_pair(number: int, encoded: Sequence[Encoded], objective: ObjectiveName) -> list[TokenRow]:
    if not all(one.trained for one in encoded):
        return []
    chosen, rejected = encoded
    if objective == "kto":
        return [
            _row(number, chosen, desirable=True),
            _row(number, rejected, desirable=False),
        ]
    if objective == "sft":
        return [_row(number, chosen)]
    row = _row(number, chosen)
    return [replace(row, second_ids=rejected.input_ids, second_labels=rejected.labels)]


def _row(number: int, encoded: Encoded, *, desirable: bool | None = None) -> TokenRow:
    return TokenRow(number, encoded.input_ids, encoded.labels, desirable=desirable)


def with_partners(rows: Sequence[TokenRow], max_length: int) -> list[TokenRow]:
    """Every row with an answer from the nearest row before it that asks something else.

    Set once, when the data is encoded: so it does not depend on how a step is divided, and the
    reference can be computed ahead.
    """
    return [_with_partner(rows, at, max_length) for at in range(len(rows))]


def _with_partner(rows: Sequence[TokenRow], at: int, max_length: int) -> TokenRow:
    row = rows[at]
    prompt = row.input_ids[: _answer_start(row)]
    for back in range(1, len(rows)):
        other = rows[at - back]
        start = _answer_start(other)
        if other.input_ids[:start] != prompt:
            break
    else:
        other, start = row, _answer_start(row)
    ids = [*prompt, *other.input_ids[start:]][:max_length]
    labels = [*[IGNORED] * len(prompt), *other.labels[start:]][:max_length]
    return replace(row, second_ids=ids, second_labels=labels)


def _answer_start(row: TokenRow) -> int:
    return next(at for at, label in enumerate(row.labels) if label != IGNORED)


def in_need(objective: ObjectiveName, rows: Sequence[TokenRow]) -> str | None:
    """What these rows lack for the objective, in a sentence; None when they will do."""
    if objective != "kto":
        return None
    good = sum(row.desirable is True for row in rows)
    if 0 < good < len(rows):
        return None
    kind = "good" if good else "bad"
    return f"KTO needs good and bad answers; all {len(rows)} that are left are {kind}."


def as_tree(row: TokenRow) -> dict[str, Any]:
    """The row as JSON, without what it does not have. (`asdict` would copy every token.)"""
    found = {name: getattr(row, name) for name in TokenRow.__slots__}
    return {name: value for name, value in found.items() if value is not None}


def row_of(tree: dict[str, Any]) -> TokenRow:
    return TokenRow(**tree)
