"""The loss, computed at labelled positions only.

A row of chat has perhaps a third of its tokens trained. The LM head is the largest matrix of a
small model, and its logits the largest tensor of any; where no label is, neither is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from core.data.encoding import IGNORED
from core.memory.setup import MOST_MEASURED_LOGITS
from core.training.ranks import largest


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
    """The same for each row: shape (rows,).

    Where several processes hold the model in parts, all of them pass through it equally often,
    however little is labelled in what each has: no one waits for weights that nobody sends.
    """
    positions, chosen = _labelled(labels)
    nothing = positions.numel() == 0
    if nothing:
        positions, chosen = positions.new_zeros(1), chosen.new_zeros(1)
    most = max(1, MOST_MEASURED_LOGITS // _vocabulary(model))
    parts = 1 if torch.is_grad_enabled() else largest(-(-positions.numel() // most))
    if parts == 1:
        logits = _logits_at(model, input_ids, positions)
        chosen = chosen.to(logits.device)
        losses = nn.functional.cross_entropy(logits.float(), chosen, reduction="none")
    else:
        losses = losses_in_parts(model, input_ids, positions, chosen, most, parts)
    if nothing:
        losses = losses * 0.0
    sums = torch.zeros(len(labels), device=labels.device)
    return sums.index_add(0, positions // labels.shape[1], losses.to(sums.device))


def losses_in_parts(
    model: nn.Module, input_ids: Tensor, positions: Tensor, chosen: Tensor, most: int, parts: int
) -> Tensor:
    """The losses with logits of at most `most` positions in memory at a time, where no gradient
    is wanted. The decoder runs once; for every part of what it gave, the model's own forward does
    all that comes after it. `parts`: how often it must, if need be more often than there are."""
    with _head_sees_only(_output_head(model), input_ids.shape[1], positions, first=1) as seen:
        model(input_ids=input_ids, use_cache=False)
    whole = _whole(model)
    decoder = whole.model if whole.base_model is whole else whole.base_model
    hidden, answers = seen[0].split(most), chosen.split(most)
    found = []
    for at in range(parts):
        part, wanted = (each[min(at, len(each) - 1)] for each in (hidden, answers))
        given = BaseModelOutputWithPast(last_hidden_state=part.unsqueeze(0))
        with patch.object(decoder, "forward", lambda *_, given=given, **__: given):
            logits = whole(input_ids=input_ids[:1, :1], use_cache=False).logits[0]
        found.append(
            nn.functional.cross_entropy(logits.float(), wanted.to(part.device), reduction="none")
        )
    return torch.cat(found[: len(hidden)])


def _whole(model: Any) -> Any:
    """The transformers model with its head, out of what wraps it."""
    inner = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


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
def _head_sees_only(
    head: nn.Module, length: int, positions: Tensor, first: int | None = None
) -> Iterator[list[Tensor]]:
    """The list gets what stands at the positions; `first`: the head sees no more of them."""
    seen: list[Tensor] = []

    def select(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = arguments[0][:, -length:]  # soft prompts stand before the row
        flat = hidden.reshape(-1, hidden.shape[-1])
        seen.append(flat[positions.to(flat.device)])
        return (seen[0][:first].unsqueeze(0), *arguments[1:])

    hook = head.register_forward_pre_hook(select)
    try:
        yield seen
    finally:
        hook.remove()


def _output_head(model: nn.Module) -> nn.Module:
    inner = getattr(model, "module", model)  # what several processes have wrapped
    head = inner.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise TypeError(f"{type(inner).__name__} has no language-model head to train.")
    return head


def _vocabulary(model: nn.Module) -> int:
    """How many logits a position has."""
    weight: Any = _output_head(model).weight
    return int(getattr(weight, "ds_shape", weight.shape)[0])  # DeepSpeed's parts have no shape


def labelled_tokens(labels: Tensor) -> int:
    """How many tokens of the batch the loss is taken on."""
    return int((labels[:, 1:] != IGNORED).sum())
