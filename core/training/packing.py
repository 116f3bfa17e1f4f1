"""Whether a model keeps packed rows apart, found out on the model itself.

Packed rows stand end to end in one sequence. Attention must not reach from one into the one
before it, and positions must start again. Most architectures do both when they are given
restarting positions and no mask; those that carry a state along the sequence do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from core.data.training_rows import TokenRow
from core.training.batches import collate
from core.training.loss import labelled_loss_sum, labelled_tokens
from core.training.modes import measuring

LEAK = 1e-3  # nats a token: what the row before may change in the loss of a row
ROUNDING = {torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 1e-2}
PROBE_TOKENS = 64


def keeps_rows_apart(model: Any, rows: Sequence[TokenRow]) -> bool:
    """Try it on two short rows: what stands before a row must not change its loss, and packed it
    must have the loss that it has alone."""
    pair = _short_pair(rows)
    if pair is None:
        return False
    before, row = pair
    other = replace(before, input_ids=before.input_ids[::-1])
    silent = [replace(each, labels=[-100] * len(each.labels)) for each in (before, other)]
    with measuring(model):
        try:
            packed, after_other = (_loss(model, [each, row], packed=True) for each in silent)
        except (TypeError, ValueError):  # an architecture that knows no position_ids
            return False
        alone = _loss(model, [row], packed=False)
    tolerance = ROUNDING.get(model.dtype, ROUNDING[torch.bfloat16]) * max(1.0, alone)
    return abs(packed - after_other) <= LEAK and abs(packed - alone) <= tolerance


def _short_pair(rows: Sequence[TokenRow]) -> tuple[TokenRow, TokenRow] | None:
    """Two rows with something trained in them, shortened: the test must cost nothing."""
    found = []
    for row in sorted(rows, key=lambda each: len(each.input_ids))[: 8 * len(rows)]:
        short = replace(row, input_ids=row.input_ids[-PROBE_TOKENS:],
                        labels=row.labels[-PROBE_TOKENS:])  # fmt: skip
        if labelled_tokens(torch.tensor([short.labels])) and len(short.input_ids) > 3:
            found.append(short)
        if len(found) == 2:
            return found[0], found[1]
    return None


def _loss(model: Any, rows: Sequence[TokenRow], *, packed: bool) -> float:
    """Nats a token."""
    batch = collate(rows, pad=0, packed=packed)
    given = {key: batch[key].to(model.device) for key in batch if key != "tokens"}
    summed = labelled_loss_sum(
        model, given["input_ids"], given["labels"], given.get("position_ids")
    )
    return float(summed) / max(1, labelled_tokens(given["labels"]))
