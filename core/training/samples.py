"""What the model writes in the middle of its training, for one held-out prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core.inference.decoding import Answer, Sampling
from core.inference.soft_prompts import answering
from core.training.modes import measuring

MAX_NEW_TOKENS = 96


def write_answer(model: Any, prompt: Sequence[int], stops: Sequence[int]) -> list[int]:
    """The greedy answer's token ids. Leaves the model as it was, training mode and RNG alike."""
    greedy = Sampling(temperature=0.0, max_new_tokens=MAX_NEW_TOKENS)
    with measuring(model):
        answer = Answer(answering(model), prompt, greedy, stops)
        while answer.ended is None:
            answer.step()
    return answer.tokens
