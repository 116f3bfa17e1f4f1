"""Measuring a run's models on its held-out rows: loss, perplexity, exact match.

The tuned model is loaded from merged/, as it ships, or as an adapter on its base where it cannot be
merged; base and tuned see the same tokens.
Imports torch: child processes only.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.data.prepared import Prepared
from core.data.tokenizer import Tokenizer, load_tokenizer
from core.errors import UserError
from core.evaluation.heldout import HeldOutRows, Question, held_out_rows
from core.evaluation.loss import held_out_loss
from core.evaluation.metrics import Answer, exact, exact_match, json_valid
from core.evaluation.results import ModelResult, Results, read_results, save
from core.inference.batches import Completion, complete
from core.inference.loading import choose_device, device_name, load_model, weight_bytes
from core.methods import Bits
from core.recipe import Recipe
from core.runs.directory import RunDirectory

Emit = Callable[..., Any]
"""Told `(kind, **fields)`: the events "progress" and "result" (see `core.runs.events`)."""
SECONDS_BETWEEN_PROGRESS = 1.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure: its weights, and an adapter where nothing was merged, with the bits
    of the weights it was trained on."""

    name: str
    folder: Path
    adapter: Path | None = None
    bits: Bits = 16


def evaluate(
    run: RunDirectory,
    recipe: Recipe,
    base: Path,
    prepared: Prepared,
    emit: Emit,
    *,
    only_missing: bool = False,
) -> Results:
    """Measure the tuned model and, where the recipe says so, the base; save after each.

    With `only_missing` a model that has results already keeps them.
    """
    subjects = [tuned_subject(run, base, recipe.method.base_bits)]
    if recipe.evaluation.base:
        subjects.append(Subject("base", base))
    tokenizer = load_tokenizer(_tokenizer_folder(run, base))
    rows = held_out_rows(prepared, tokenizer, recipe.evaluation.rows)
    done = read_results(run).models if only_missing else {}
    for subject in subjects:
        if subject.name not in done:
            result = _measure(run, recipe, subject, rows, tokenizer, emit)
            emit("result", **asdict(result))
    return read_results(run)


def tuned_subject(run: RunDirectory, base: Path, bits: Bits) -> Subject:
    """merged/, or the adapter on its base where nothing was merged."""
    if (run.merged / "config.json").is_file():
        return Subject("tuned", run.merged)
    if (run.adapter / "adapter_config.json").is_file():
        return Subject("tuned", base, run.adapter, bits)
    raise UserError(f"{run.id} has no trained model to evaluate.", "Let it train to the end.")


def _tokenizer_folder(run: RunDirectory, base: Path) -> Path:
    """Whose template both models are asked with: the one that was trained with."""
    return next((f for f in (run.merged, run.adapter) if (f / "tokenizer.json").is_file()), base)


def _measure(
    run: RunDirectory,
    recipe: Recipe,
    subject: Subject,
    rows: HeldOutRows,
    tokenizer: Tokenizer,
    emit: Emit,
) -> ModelResult:
    """Load one model, measure it, save what was found, and give its memory back."""
    started = time.monotonic()
    wanted = "cpu" if recipe.hardware.gpu == "cpu" else "auto"
    device = choose_device(weight_bytes(subject.folder, subject.bits), wanted)
    model = load_model(subject.folder, device, subject.adapter, subject.bits)
    told = Progress(emit, subject.name, len(rows.sequences) + len(rows.questions))
    loss = held_out_loss(model, rows.sequences, on_row=told.at)
    limit = rows.max_new_tokens(recipe.evaluation.max_new_tokens)
    completions = _answer_all(model, rows, tokenizer, limit, told)
    pairs = zip(rows.questions, completions, strict=True)
    answers = [_answer(question, completion, tokenizer) for question, completion in pairs]
    result = ModelResult(
        model=subject.name,
        loss=loss.mean if loss else None,
        perplexity=perplexity(loss.mean) if loss else None,
        loss_rows=loss.rows if loss else 0,
        loss_tokens=loss.tokens if loss else 0,
        exact_match=exact_match(answers),
        json_valid=json_valid(answers),
        rows=len(answers),
        cut_off=_share_cut_off(answers),
        max_new_tokens=limit if answers else 0,
        generated_tokens=sum(len(completion.tokens) for completion in completions),
        seconds=round(time.monotonic() - started, 3),
        device=device_name(device),
    )
    save(run, result, answers)
    del model
    release_memory()
    return result


def _answer_all(
    model: Any, rows: HeldOutRows, tokenizer: Tokenizer, limit: int, told: Progress
) -> list[Completion]:
    """Greedy answers to all questions, in their order."""
    prompts = [question.prompt_ids for question in rows.questions]
    found: dict[int, Completion] = {}
    for completion in complete(model, prompts, stop_ids=tokenizer.stop_ids, max_new_tokens=limit):
        found[completion.index] = completion
        told.at(len(rows.sequences) + len(found))
    return [found[index] for index in range(len(prompts))]


def _answer(question: Question, completion: Completion, tokenizer: Tokenizer) -> Answer:
    text = tokenizer.decode(completion.tokens, skip_special=True).strip()
    return Answer(
        number=question.number,
        prompt=question.shown,
        reference=question.reference.strip(),
        answer=text,
        exact=exact(text, question.reference),
        ended=completion.ended,
    )


def _share_cut_off(answers: list[Answer]) -> float | None:
    return sum(a.ended == "length" for a in answers) / len(answers) if answers else None


def perplexity(loss: float) -> float:
    """e to the loss; infinite where that is beyond a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def release_memory() -> None:
    """Give a dropped model's memory back before the next is loaded."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class Progress:
    """Progress events of one model, at most one a second."""

    def __init__(self, emit: Emit, name: str, total: int) -> None:
        self._emit, self._name, self._total = emit, name, total
        self._last = -math.inf
        self.at(0)

    def at(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_PROGRESS or done == self._total:
            self._last = now
            self._emit(
                "progress",
                stage="evaluating",
                done=done,
                total=self._total,
                unit="rows",
                text=f"the {self._name} model",
            )
