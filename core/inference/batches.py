"""Greedy answers to many prompts at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Tokens (prompt and answer) that the caches of one batch may hold, and rows at most: beyond
# these the processor is busy anyway and padding and memory only grow.
BATCH_TOKENS = 16_384
BATCH_ROWS = 128
# Finished rows are taken out of a batch when they are this share of it: it costs a copy.
DROP_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Completion:
    """The answer to prompt number `index`. `ended` is "stop" or "length"."""

    index: int
    tokens: list[int]
    ended: str


def complete(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Sequence[int],
    max_new_tokens: int,
) -> Iterator[Completion]:
    """The likeliest answer to every prompt, as they end."""
    import torch

    queue = plan_batches([len(prompt) for prompt in prompts], max_new_tokens)
    while queue:
        rows = queue.pop(0)
        try:
            for completion in _Batch(model, prompts, rows, stop_ids).run(max_new_tokens):
                rows.remove(completion.index)
                yield completion
        except torch.OutOfMemoryError:
            if len(rows) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(rows) // 2
            queue[:0] = [rows[:half], rows[half:]]


def plan_batches(lengths: Sequence[int], extra: int) -> list[list[int]]:
    """Row numbers in batches of similar length, the longest first: what does not fit shows soon."""
    order = sorted(range(len(lengths)), key=lambda row: lengths[row], reverse=True)
    batches: list[list[int]] = []
    while order:
        size = BATCH_TOKENS // (lengths[order[0]] + extra)
        size = max(1, min(size, BATCH_ROWS))
        batches.append(order[:size])
        order = order[size:]
    return batches


class _Batch:
    """Rows that are written in step, padded on the left."""

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        rows: Sequence[int],
        stop_ids: Sequence[int],
    ) -> None:
        import torch

        self._model = model
        self._rows = list(rows)
        self._stop_ids = frozenset(stop_ids)
        self._answers: list[list[int]] = [[] for _ in rows]
        width = max(len(prompts[row]) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, width - len(prompts[row]) :] = torch.tensor(prompts[row])
            mask[place, width - len(prompts[row]) :] = 1
        self._ids = ids.to(model.device)
        self._mask = mask.to(model.device)
        self._cache: Any = None

    def run(self, max_new_tokens: int) -> Iterator[Completion]:
        finished: list[int] = []  # places whose answer is complete, still computed along
        for count in range(1, max_new_tokens + 1):
            for place, token in enumerate(self._next_tokens()):
                if place in finished:
                    continue
                if token in self._stop_ids:
                    finished.append(place)
                    yield Completion(self._rows[place], self._answers[place], "stop")
                    continue
                self._answers[place].append(token)
                if count == max_new_tokens:
                    yield Completion(self._rows[place], self._answers[place], "length")
            if len(finished) == len(self._rows):
                return
            if len(finished) >= max(1, DROP_SHARE * len(self._rows)):
                self._drop(finished)
                finished = []

    def _next_tokens(self) -> list[int]:
        import torch

        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -self._ids.shape[1] :]
        with torch.inference_mode():
            output = self._model(
                input_ids=self._ids,
                attention_mask=self._mask,
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = output.past_key_values
        tokens = output.logits[:, -1].argmax(-1)
        self._ids = tokens[:, None]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(self._rows), 1)], dim=1)
        chosen: list[int] = tokens.tolist()
        return chosen

    def _drop(self, finished: Sequence[int]) -> None:
        import torch

        kept = [place for place in range(len(self._rows)) if place not in finished]
        index = torch.tensor(kept, device=self._ids.device)
        self._rows = [self._rows[place] for place in kept]
        self._answers = [self._answers[place] for place in kept]
        self._ids, self._mask = self._ids[index], self._mask[index]
        self._cache.batch_select_indices(index)
