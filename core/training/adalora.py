"""What AdaLoRA does beside the gradient steps: it moves its rank, and keeps its matrices apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

ORTHOGONALITY = 0.5  # the weight of the penalty, peft's default


def penalty(model: nn.Module) -> Tensor:
    """The gradient that draws A and B towards orthogonal rows, in a tensor whose value is 0.

    peft adds the penalty to the loss, once for every micro-batch; so kept apart, the loss that is
    shown stays the cross entropy, which the held-out loss is compared with.
    """
    distances = []
    for name, weight in _matrices(model):
        square = weight @ weight.T if "lora_A" in name else weight.T @ weight
        distances.append(torch.linalg.norm(square - torch.eye(len(square)).to(square)))
    distance = ORTHOGONALITY * torch.stack(distances).mean()
    return distance - distance.detach()


class RankMover(TrainerCallback):  # type: ignore[misc]
    """After every optimiser step, while its gradients are still there: less rank where it helps
    least, until in the middle of the run what is left stays."""

    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        model: Any = None,
        **rest: Any,
    ) -> None:
        for _, weight in _parameters(model):
            if weight.grad is None:  # a batch without a finite gradient was left out
                weight.grad = torch.zeros_like(weight)
        model.base_model.update_and_allocate(state.global_step)


def freeze_ranks(model: nn.Module) -> None:
    """peft lets the optimiser move the numbers of ranks, and does not save them."""
    for name, weight in model.named_parameters():
        if ".ranknum." in name:
            weight.requires_grad_(False)


def scores(model: Any) -> dict[str, dict[str, Tensor]]:
    """What the allocator has learned so far about every weight, by kind and name."""
    allocator = model.base_model.rankallocator
    return {
        "mean": allocator.exp_avg_ipt,
        "uncertainty": allocator.exp_avg_unc,
        "last": allocator.ipt,
    }


def _matrices(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return (found for found in _parameters(model) if "lora_E" not in found[0])


def _parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    named = model.named_parameters()
    return ((name, weight) for name, weight in named if "lora_" in name and weight.requires_grad)
