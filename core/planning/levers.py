"""What to change so that a run fits: each lever with what it saves and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from core.memory.trainable import adapted_linears, trainable
from core.methods import METHODS
from core.planning.candidates import Candidate, Lever
from core.planning.settings import effort_of, settings_of

Retune = Callable[..., Candidate]
SHORTEST = 256
LEAST_SAVING = 0.01
SLOWER = 1.03
"""Times as long from which on it is said; a lever's own cost comes first."""


def levers_for(candidate: Candidate, retune: Retune) -> tuple[Lever, ...]:
    """The levers that save something, the strongest first."""
    peak = candidate.prediction.peak
    found = []
    for text, costs, changes in _choices(candidate):
        after = retune(candidate, **changes)
        saves = peak - after.prediction.peak
        if saves > LEAST_SAVING * peak:
            found.append(Lever(text, saves, _costs(costs, candidate, after)))
    return tuple(sorted(found, key=lambda lever: -lever.saves))


def _choices(candidate: Candidate) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each with what it costs beside time."""
    basis, hyper = candidate.basis, candidate.hyper
    method = METHODS[candidate.method]
    if method.kind == "weights":
        share = _trained_share(candidate)
        text = f"LoRA instead of {candidate.method}"
        yield text, f"trains {share:.1%} of the weights", {"method": "lora"}
    if candidate.method in ("full", "lora", "last-layers") and basis.on_gpu:
        yield "QLoRA: the base in 4 bits", "rounds the base", {"method": "qlora"}
    elif 4 in method.bits and (hyper.bits or method.bits[0]) != 4 and basis.on_gpu:
        yield "the base in 4 bits", "rounds the base", {"bits": 4}
    yield from _of_the_step(candidate)
    if (shorter := _shorter(min(candidate.seq_length, basis.max_tokens))) >= SHORTEST:
        text = f"length {candidate.seq_length} → {shorter}"
        yield text, _truncation(candidate, shorter), {"seq_length": shorter}
    if candidate.optimizer == "adamw" and basis.on_gpu and not settings_of(candidate).in_parts:
        change8 = {"optimizer": "paged-adamw-8bit"}
        yield "8-bit paged AdamW", "slightly noisier updates", change8
    if "rank" in method.knobs and hyper.rank > 8:
        yield f"rank {hyper.rank} → 8", "less room to learn", {"rank": 8}
    if "target_modules" in method.knobs and hyper.targets == "all-linear":
        yield "adapters on attention only", "learns less", {"targets": "attention-all"}


def _of_the_step(candidate: Candidate) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What changes how a step is computed, and not what it learns; the last one changes both."""
    basis, micro = candidate.basis, candidate.micro_batch
    method = METHODS[candidate.method]
    if not candidate.gradient_checkpointing and method.allows_checkpointing:
        yield "gradient checkpointing", "same result", {"gradient_checkpointing": True}
    if candidate.packed and not basis.flash:
        yield "rows below each other, not end to end", "padding instead", {"packing": False}
    if basis.gpus > 1 and candidate.sharding in ("auto", "ddp") and method.can_be_split:
        text = f"a part of the model on each of the {basis.gpus} GPUs (fsdp)"
        yield text, "they exchange weights, too", {"sharding": "fsdp"}
    if micro > 1:
        yield f"micro-batch {micro} → {micro // 2}", "same result", {"micro_batch": micro // 2}
    if candidate.gradient_accumulation > basis.gpus:
        rows, fewer = micro * candidate.gradient_accumulation, micro * basis.gpus
        text = f"a step of {fewer} row{'s' if fewer > 1 else ''}, not of {rows}"
        yield text, "noisier steps", {"gradient_accumulation": basis.gpus}


def _costs(costs: str, before: Candidate, after: Candidate) -> str:
    """With the time that it takes more, where that is worth a word, and what it brings along."""
    if settings_of(before).in_parts and not settings_of(after).in_parts:
        costs = f"{costs}, a whole copy on each GPU"
    times = effort_of(after) / max(1e-9, effort_of(before))
    if times < SLOWER:
        return costs
    slower = f"{times - 1:.0%} slower" if times < 2 else f"{times:.1f} times as long"
    return f"{costs}, {slower}"


def _trained_share(candidate: Candidate) -> float:
    """What LoRA on all linears would train of the model."""
    shape = candidate.model.shape
    adapted = adapted_linears(shape, "lora", candidate.hyper.targets)
    return trainable(shape, "lora", candidate.hyper.rank, adapted) / shape.parameters


def _shorter(length: int) -> int:
    """About half of it: a power of two, for which the inspector counts the rows that it cuts."""
    return 1 << (max(1, length * 3 // 5).bit_length() - 1)


def _truncation(candidate: Candidate, shorter: int) -> str:
    """How many rows a shorter length cuts, as exactly as it was counted."""
    basis = candidate.basis
    if basis.objective == "pretrain":
        return "nothing cut: texts are split into more pieces"
    share = basis.share_cut(shorter)
    if share == 0:
        return "nothing: no row is that long"
    if share is None:
        fewer = "fewer" if basis.p95 <= shorter else "more"
        return f"truncates {fewer} than 5 % of the rows"
    if shorter not in dict(basis.cut_at):
        return f"truncates up to {100 * share:.0f} % of the rows"
    return f"truncates {100 * share:.0f} % of rows" if share >= 0.01 else "truncates under 1 %"
