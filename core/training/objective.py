"""How an objective turns batches into losses: the part of the trainer that knows of it.

A loss is always a sum over what a micro-batch holds, and its weight (tokens or rows) is counted
over a whole step: how a step is divided into micro-batches changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from core.data.encoding import IGNORED
from core.data.training_rows import TokenRow
from core.recipe import ObjectiveSection
from core.training.batches import collate
from core.training.loss import labelled_loss_rows, labelled_loss_sum, labelled_tokens
from core.training.modes import measuring
from core.training.preference import dpo, kto, kto_shift, kto_weights, orpo
from core.training.ranks import gathered, means_of_all

Batch = dict[str, Tensor]
Logs = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a model, ids and labels to the log-probability of every row's trained tokens together."""


@dataclass(frozen=True, slots=True)
class RowLosses:
    """A summed loss for each row of a batch, and what each is to be divided by."""

    sums: Tensor
    weights: Tensor


@dataclass(slots=True)
class Measures:
    """What is told beside the loss: means since they were last taken, over all processes."""

    _values: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def note(self, name: str, values: Tensor) -> None:
        if values.numel():
            self._values[name].append(values.detach().float().reshape(-1))

    def take(self) -> dict[str, float]:
        """The means, and a fresh start. All processes take them at once."""
        own = {name: torch.cat(each) for name, each in self._values.items()}
        means = means_of_all({name: (float(v.sum()), v.numel()) for name, v in own.items()})
        self._values.clear()
        if "rewards_chosen" in means and "rewards_rejected" in means:
            means["margin"] = means["rewards_chosen"] - means["rewards_rejected"]
        return {name: round(value, 6) for name, value in means.items()}


class ObjectiveLoss(Protocol):
    """What the trainer asks of an objective."""

    measures: Measures

    def items(self, batch: Batch) -> int:
        """What the losses of a micro-batch are to be divided by, in sum."""

    def begin(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        """Called with all micro-batches of a step before the first of them."""

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a micro-batch, not yet divided."""

    def rows(self, model: nn.Module, batch: Batch) -> RowLosses:
        """The same for each row."""


class TokenLoss:
    """Supervised training and continued pre-training: cross entropy of the trained tokens."""

    def __init__(self) -> None:
        self.measures = Measures()

    def items(self, batch: Batch) -> int:
        return labelled_tokens(batch["labels"])

    def begin(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        pass

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        return labelled_loss_sum(
            model, batch["input_ids"], batch["labels"], batch.get("position_ids")
        )

    def rows(self, model: nn.Module, batch: Batch) -> RowLosses:
        sums = labelled_loss_rows(model, batch["input_ids"], batch["labels"])
        return RowLosses(sums, (batch["labels"][:, 1:] != IGNORED).sum(1))


class PreferenceLoss:
    """DPO and ORPO on pairs, KTO on single answers. Batches hold two sequences a row: all first
    ones, then all second ones. `logs` is how log-probabilities are computed."""

    def __init__(self, section: ObjectiveSection, weights: tuple[float, float]) -> None:
        self.measures = Measures()
        self.logs: Logs = answer_logs
        self._name = section.name
        self._beta = section.beta
        self._weights = weights

    def items(self, batch: Batch) -> int:
        return int(_trains(batch["labels"], 0).sum())

    def begin(self, model: nn.Module, batches: Sequence[Batch]) -> None:
        """KTO: how far the model has moved, over all of the step at once."""
        if self._name != "kto" or not batches:
            return
        device = next(model.parameters()).device
        policy, reference, counted = [], [], []
        for batch in batches:
            half = len(batch["input_ids"]) // 2
            ids, labels = (batch[key][half:].to(device) for key in ("input_ids", "labels"))
            known = batch.get("reference")
            counted.append(_trains(batch["labels"], 1).to(device))
            with measuring(model):
                policy.append(self.logs(model, ids, labels))
            reference.append(
                self._reference(model, ids, labels) if known is None else known[:, 1].to(device)
            )
        real = torch.cat(counted)
        shift = kto_shift(gathered(torch.cat(policy)[real]), gathered(torch.cat(reference)[real]))
        self.measures.note("kl", shift)
        for batch in batches:
            batch["shift"] = shift

    def loss_sum(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.rows(model, batch).sums.sum()

    def rows(self, model: nn.Module, batch: Batch) -> RowLosses:
        losses = self._kto(model, batch) if self._name == "kto" else self._pairs(model, batch)
        real = _trains(batch["labels"], 0)
        return RowLosses(losses * real, real.long())

    def _pairs(self, model: nn.Module, batch: Batch) -> Tensor:
        ids, labels = batch["input_ids"], batch["labels"]
        if self._name == "orpo":
            tokens = (labels[:, 1:] != IGNORED).sum(1).clamp(min=1)
            losses, rewards = orpo(_paired(self.logs(model, ids, labels) / tokens), self._beta)
        else:
            reference = batch.get("reference")
            if reference is None:
                reference = _paired(self._reference(model, ids, labels))
            losses, rewards = dpo(_paired(self.logs(model, ids, labels)), reference, self._beta)
        seen = rewards[_trains(labels, 0)]
        self._note(seen[:, 0], seen[:, 1])
        self.measures.note("accuracy", seen[:, 0] > seen[:, 1])
        return losses

    def _kto(self, model: nn.Module, batch: Batch) -> Tensor:
        half = len(batch["input_ids"]) // 2
        ids, labels = _trimmed(batch["input_ids"][:half], batch["labels"][:half], batch["lengths"])
        known, good = batch.get("reference"), batch["desirable"]
        reference = self._reference(model, ids, labels) if known is None else known[:, 0]
        policy = self.logs(model, ids, labels)
        losses, rewards = kto(policy, reference, batch["shift"], good, self._beta)
        real = _trains(batch["labels"], 0)
        self._note(rewards[good & real], rewards[~good & real])
        right = (rewards > self._beta * batch["shift"]) == good
        self.measures.note("accuracy", right[real])
        return losses * torch.where(good, *self._weights)

    def _reference(self, model: Any, ids: Tensor, labels: Tensor) -> Tensor:
        """The same under the model as it was: the adapter is left out for the moment."""
        inner = getattr(model, "module", model)  # what several processes have wrapped
        with measuring(model), inner.disable_adapter():
            return self.logs(model, ids, labels)

    def _note(self, chosen: Tensor, rejected: Tensor) -> None:
        self.measures.note("rewards_chosen", chosen)
        self.measures.note("rewards_rejected", rejected)


def objective_loss(section: ObjectiveSection, train: Sequence[TokenRow]) -> ObjectiveLoss:
    """The loss of this objective on these rows."""
    if section.spec.is_of_tokens:
        return TokenLoss()
    return PreferenceLoss(section, row_weights(section, train))


def row_weights(section: ObjectiveSection, train: Sequence[TokenRow]) -> tuple[float, float]:
    """KTO's weights of good and bad rows."""
    good = sum(row.desirable is True for row in train)
    balanced = kto_weights(good, len(train) - good)
    wanted = (section.desirable_weight, section.undesirable_weight)
    first, second = (
        auto if asked == "auto" else asked for asked, auto in zip(wanted, balanced, strict=True)
    )
    return first, second


def trial_loss(model: nn.Module, rows: Sequence[TokenRow]) -> float:
    """Nats a token of a few rows in one forward pass, to compare two ways of computing it."""
    batch = collate([replace(row, second_ids=None) for row in rows], pad=0)
    device = next(model.parameters()).device
    labels = batch["labels"].to(device)
    with measuring(model):
        summed = labelled_loss_sum(model, batch["input_ids"].to(device), labels)
    return float(summed) / max(1, labelled_tokens(labels))


def answer_logs(model: nn.Module, ids: Tensor, labels: Tensor) -> Tensor:
    """The log-probability of every row's trained tokens together."""
    return -labelled_loss_rows(model, ids, labels)


def _trains(labels: Tensor, half: int) -> Tensor:
    """Which rows have something to learn in their first (0) or second (1) sequence: all but those
    that only fill up the share of a process."""
    return (labels.view(2, -1, labels.shape[1])[half] != IGNORED).any(1)


def _paired(values: Tensor) -> Tensor:
    """(2n,) of firsts and seconds as (n, 2)."""
    return values.view(2, -1).T


def _trimmed(ids: Tensor, labels: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Without the columns that only the second sequences fill."""
    width = int(lengths.max())
    return ids[:, :width], labels[:, :width]
