"""Writing one answer token by token, and turning the tokens into text as they come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# The prompt is read in pieces of this many tokens, so that a stop is obeyed in between.
PREFILL_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. Temperature 0 always takes the likeliest."""

    temperature: float = 0.7
    top_p: float = 0.95
    max_new_tokens: int = 512
    seed: int = 0


class Answer:
    """One answer being written. Each `step` does a bounded amount of work.

    `ended` is None while it is being written, then "stop" (the model ended it) or "length".
    """

    def __init__(
        self, model: Any, prompt: Sequence[int], sampling: Sampling, stop_ids: Sequence[int]
    ) -> None:
        import torch

        self._model = model
        self._sampling = sampling
        self._stop_ids = frozenset(stop_ids)
        self._pending = list(prompt)
        self._cache: Any = None
        self._generator = torch.Generator(model.device).manual_seed(sampling.seed)
        self.tokens: list[int] = []
        self.ended: str | None = None

    def step(self) -> int | None:
        """The next token of the text; None while the prompt is being read or at the end."""
        chunk, self._pending = self._pending[:PREFILL_CHUNK], self._pending[PREFILL_CHUNK:]
        logits = self._forward(chunk)
        if self._pending:
            return None
        token = choose_token(logits, self._sampling, self._generator)
        if token in self._stop_ids:
            self.ended = "stop"
            return None
        self.tokens.append(token)
        self._pending = [token]
        if len(self.tokens) >= self._sampling.max_new_tokens:
            self.ended = "length"
        return token

    def _forward(self, chunk: list[int]) -> Any:
        import torch

        with torch.inference_mode():
            output = self._model(
                input_ids=torch.tensor([chunk], device=self._model.device),
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = output.past_key_values
        return output.logits[0, -1].float()


def choose_token(logits: Any, sampling: Sampling, generator: Any) -> int:
    """A token drawn from the nucleus `top_p` of the tempered distribution."""
    import torch

    if sampling.temperature <= 0:
        return int(logits.argmax())
    chances, order = (logits / sampling.temperature).softmax(-1).sort(descending=True)
    # A token stays while those before it hold less than top_p: the likeliest always does.
    before = chances.cumsum(-1) - chances
    chances = chances.masked_fill(before >= max(sampling.top_p, 1e-6), 0.0)
    return int(order[torch.multinomial(chances, 1, generator=generator)])


class Detokeniser:
    """Tokens to text while they come.

    A token may end inside a character, and a tokenizer may treat the first token of a text
    otherwise than the following: so a few tokens before the new ones are decoded along with
    them, and nothing is given out that ends in half a character.
    """

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._tokens: list[int] = []
        self._anchor = 0
        self._given = 0

    def add(self, token: int) -> str:
        """The text that `token` completes; empty while a character is incomplete."""
        self._tokens.append(token)
        return self._new_text(final=False)

    def finish(self) -> str:
        """What is left at the end, even if it is half a character."""
        return self._new_text(final=True)

    def _new_text(self, final: bool) -> str:
        known = self._decode(self._tokens[self._anchor : self._given])
        text = self._decode(self._tokens[self._anchor :])
        if len(text) <= len(known) or (text.endswith("\ufffd") and not final):
            return ""
        self._anchor, self._given = self._given, len(self._tokens)
        return text[len(known) :]
