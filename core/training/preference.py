"""The losses that learn from preferences, from log-probabilities alone.

Every function gives one loss a row. Log-probabilities are those of a whole answer: the sum over
its trained tokens, or for ORPO their mean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def dpo(policy: Tensor, reference: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Losses and rewards of pairs: (pairs, 2) in, the chosen answer first.

    Rafailov et al. 2023, equation 7.
    """
    rewards = beta * (policy - reference)
    return -logsigmoid(rewards[:, 0] - rewards[:, 1]), rewards.detach()


def orpo(means: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Losses and rewards of pairs: (pairs, 2) mean log-probabilities in, the chosen first.

    Hong et al. 2024, equations 6 and 7: the loss of the chosen answer, and beta times how little
    its odds exceed those of the rejected one.
    """
    odds = means - _log_of_rest(means)
    return -means[:, 0] - beta * logsigmoid(odds[:, 0] - odds[:, 1]), (beta * means).detach()


def _log_of_rest(logs: Tensor) -> Tensor:
    """log(1 - e^x), exact for x near 0 and far below it alike."""
    below = logs.clamp(max=-1e-7)  # a certain answer has infinite odds
    near = torch.log(-torch.expm1(below))
    far = torch.log1p(-torch.exp(below))
    return torch.where(below > -0.6931, near, far)


def kto(
    policy: Tensor, reference: Tensor, shift: Tensor, good: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """Losses (not yet weighted) and rewards of single answers; `good` says which are desirable.

    Ethayarajh et al. 2024, equation 8. `shift` is how far the model has moved from the reference
    in general (`kto_shift`), which a good answer must exceed and a bad one fall short of.
    """
    moved = policy - reference
    gain = torch.where(good, moved - shift, shift - moved)
    return 1 - torch.sigmoid(beta * gain), (beta * moved).detach()


def kto_shift(policy: Tensor, reference: Tensor) -> Tensor:
    """The estimate of the divergence from the reference: the mean over answers that belong to
    other prompts, at least 0, and 0 where there are none."""
    moved = policy - reference
    return (moved.sum() / max(1, moved.numel())).clamp(min=0).detach()


def kto_weights(good: int, bad: int) -> tuple[float, float]:
    """Weights of good and bad rows that make both count the same in sum: the rarer kind counts
    more, the other once (equation 9 asks for a ratio between 1 and 1.5)."""
    if good < bad:
        return bad / max(1, good), 1.0
    return 1.0, good / max(1, bad)
