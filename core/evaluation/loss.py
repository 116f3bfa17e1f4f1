"""Mean loss over the trained tokens of held-out rows, computed on labels as the trainer has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core.data.encoding import IGNORED
from core.data.training_rows import TokenRow

# Positions (rows × width) in one forward pass.
BATCH_POSITIONS = 4096


@dataclass(frozen=True, slots=True)
class Loss:
    """Nats a token, the mean over `tokens` tokens of `rows` rows."""

    mean: float
    tokens: int
    rows: int


def held_out_loss(
    model: Any,
    rows: Sequence[TokenRow],
    *,
    on_row: Callable[[int], None] = lambda done: None,
) -> Loss | None:
    """The loss of `model` on `rows`; None when no row has a trained token."""
    total, tokens, done = 0.0, 0, 0
    order = sorted(rows, key=lambda row: len(row.input_ids), reverse=True)
    while order:
        size = max(1, BATCH_POSITIONS // len(order[0].input_ids))
        batch, order = order[:size], order[size:]
        summed, count = _batch_loss(model, batch)
        total, tokens, done = total + summed, tokens + count, done + len(batch)
        on_row(done)
    return Loss(total / tokens, tokens, len(rows)) if tokens else None


def _batch_loss(model: Any, rows: Sequence[TokenRow]) -> tuple[float, int]:
    """The summed loss and the count of trained tokens. Rows are padded on the right."""
    import torch

    width = len(rows[0].input_ids)
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, IGNORED)
    for place, row in enumerate(rows):
        ids[place, : len(row.input_ids)] = torch.tensor(row.input_ids)
        labels[place, : len(row.labels)] = torch.tensor(row.labels)
        mask[place, : len(row.input_ids)] = 1
    # Only the positions before a trained token are projected onto the vocabulary.
    keep = (labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]
    if len(keep) == 0:
        return 0.0, 0
    targets = labels[:, keep + 1].to(model.device)
    with torch.inference_mode():
        logits = model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            use_cache=False,
            logits_to_keep=keep.to(model.device),
        ).logits
        losses = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
        )
    return float(losses), int((targets != IGNORED).sum())
