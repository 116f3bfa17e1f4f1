"""A model with a soft prompt, called as a plain one: what stands before the text is put there once.

peft's own forward pass puts it before every call, so that an answer cannot be written token by
token on a cache, and knows nothing of padding on the left. Imports torch; child processes only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def answering(model: Any) -> Any:
    """The model in a form that answers token by token; most are that as they are."""
    soft = getattr(model, "peft_config", None) and model.active_peft_config.is_prompt_learning
    return SoftPrompted(model) if soft else model


class SoftPrompted:
    """Answers calls with a row's tokens as the base would, had the row begun with the prompt."""

    def __init__(self, adapted: Any) -> None:
        self._adapted = adapted
        self._base = adapted.get_base_model()
        self._length: int = adapted.active_peft_config.num_virtual_tokens
        self._is_prefix = adapted.active_peft_config.peft_type == "PREFIX_TUNING"
        self.config = self._base.config

    @property
    def device(self) -> torch.device:
        return torch.device(self._base.device)

    @property
    def virtual_tokens(self) -> int:
        """Positions that the prompt takes of the model's context."""
        return self._length

    def __call__(
        self,
        *,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        logits_to_keep: int | Tensor = 0,
        use_cache: bool = True,
    ) -> Any:
        """Positions, mask and what to keep are those of the row's own tokens."""
        rows = len(input_ids)
        if position_ids is None and past_key_values is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        options: dict[str, Any] = {"use_cache": use_cache, "logits_to_keep": logits_to_keep}
        if position_ids is not None:
            options["position_ids"] = position_ids + self._length
        if attention_mask is not None:
            ones = attention_mask.new_ones(rows, self._length)
            options["attention_mask"] = torch.cat([ones, attention_mask], 1)
        if past_key_values is not None:
            return self._base(input_ids=input_ids, past_key_values=past_key_values, **options)
        if self._is_prefix:
            prefix = self._adapted.get_prompt(rows)
            return self._base(input_ids=input_ids, past_key_values=prefix, **options)
        return self._first(input_ids, options)

    def _first(self, input_ids: Tensor, options: dict[str, Any]) -> Any:
        """The vectors themselves before those of the tokens."""
        tokens = self._base.get_input_embeddings()(input_ids)
        prompt = self._adapted.get_prompt(len(input_ids)).to(tokens)
        positions = torch.arange(self._length, device=input_ids.device)[None]
        given = options["position_ids"].expand(len(input_ids), -1)
        options["position_ids"] = torch.cat([positions.expand(len(input_ids), -1), given], 1)
        if isinstance(options["logits_to_keep"], Tensor):
            options["logits_to_keep"] = options["logits_to_keep"] + self._length
        return self._base(inputs_embeds=torch.cat([prompt, tokens], 1), **options)
