"""The loss, computed at labelled positions only.

A row of chat has perhaps a third of its tokens trained. The LM head is the largest matrix of a
small model, and its logits the largest tensor of any; where no label is, neither is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from core.data.encoding import IGNORED


def labelled_loss_sum(
    model: nn.Module, input_ids: Tensor, labels: Tensor, position_ids: Tensor | None = None
) -> Tensor:
    """The summed cross entropy over all labelled tokens (each predicted by the one before it).

    The model's own forward runs unchanged, with scaling and soft-capping of logits where it has
    them; only what enters its head is cut down to the positions that count. `position_ids` are
    given for packed rows: where they start again, a row begins.
    """
    positions, chosen = _labelled(labels)
    if positions.numel() == 0:
        positions = positions.new_zeros(1)  # a zero that still hangs on the graph
        return _logits_at(model, input_ids, positions, position_ids).float().sum() * 0.0
    logits = _logits_at(model, input_ids, positions, position_ids)
    return nn.functional.cross_entropy(logits.float(), chosen.to(logits.device), reduction="sum")


def labelled_loss_rows(model: nn.Module, input_ids: Tensor, labels: Tensor) -> Tensor:
    """The same for each row: shape (rows,)."""
    positions, chosen = _labelled(labels)
    sums = torch.zeros(len(labels), device=labels.device)
    if positions.numel() == 0:
        return sums
    logits = _logits_at(model, input_ids, positions)
    chosen = chosen.to(logits.device)
    losses = nn.functional.cross_entropy(logits.float(), chosen, reduction="none")
    return sums.index_add(0, positions // labels.shape[1], losses.to(sums.device))


def _labelled(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where in the flattened rows a trained token comes next, and which token that is."""
    targets = labels[:, 1:]
    trained = targets != IGNORED
    positions = trained.reshape(-1).nonzero().squeeze(1)
    return positions + positions // targets.shape[1], targets[trained]


def _logits_at(
    model: nn.Module, input_ids: Tensor, positions: Tensor, position_ids: Tensor | None = None
) -> Tensor:
    # Rows are padded on the right: causal attention alone keeps padding out of what counts,
    # and without a mask the attention kernels take their fastest path.
    packed = {} if position_ids is None else {"position_ids": position_ids}
    with _head_sees_only(_output_head(model), input_ids.shape[1], positions):
        logits: Tensor = model(input_ids=input_ids, use_cache=False, **packed).logits
    return logits.reshape(-1, logits.shape[-1])


@contextmanager
def _head_sees_only(head: nn.Module, length: int, positions: Tensor) -> Iterator[None]:
    def select(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = arguments[0][:, -length:]  # soft prompts stand before the row
        flat = hidden.reshape(-1, hidden.shape[-1])
        return (flat[positions.to(flat.device)].unsqueeze(0), *arguments[1:])

    hook = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()


def _output_head(model: nn.Module) -> nn.Module:
    inner = getattr(model, "module", model)  # what several processes have wrapped
    head = inner.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise TypeError(f"{type(inner).__name__} has no language-model head to train.")
    return head


def labelled_tokens(labels: Tensor) -> int:
    """How many tokens of the batch the loss is taken on."""
    return int((labels[:, 1:] != IGNORED).sum())
