"""What the model writes in the middle of its training, for one held-out prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from core.training.modes import measuring

MAX_NEW_TOKENS = 96


def write_answer(model: Any, prompt: Sequence[int], stops: Sequence[int], pad: int) -> list[int]:
    """The greedy answer's token ids. Leaves the model as it was, training mode and RNG alike."""
    ids = torch.tensor([list(prompt)], device=model.device)
    with measuring(model):
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=MAX_NEW_TOKENS,
            do_sample=False,
            use_cache=True,
            eos_token_id=list(stops) or None,
            pad_token_id=pad,
        )
    return [int(token) for token in written[0, len(prompt) :]]
