"""What to change so that a run fits: each lever with what it saves and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from core.methods import METHODS
from core.planning.candidates import Candidate, Lever
from core.planning.settings import settings_of

Retune = Callable[..., Candidate]
SHORTEST = 256
LEAST_SAVING = 0.01


def levers_for(candidate: Candidate, retune: Retune) -> tuple[Lever, ...]:
    """The levers that save something, the strongest first."""
    peak = candidate.prediction.peak
    found = []
    for text, costs, changes in _choices(candidate):
        saves = peak - retune(candidate, **changes).prediction.peak
        if saves > LEAST_SAVING * peak:
            found.append(Lever(text, saves, costs))
    return tuple(sorted(found, key=lambda lever: -lever.saves))


def _choices(candidate: Candidate) -> Iterator[tuple[str, str, dict[str, Any]]]:
    basis, hyper = candidate.basis, candidate.hyper
    method = METHODS[candidate.method]
    if method.kind == "weights":
        yield "LoRA instead of full", "trains 1-2 % of the weights", {"method": "lora"}
    if candidate.method in ("full", "lora", "last-layers") and basis.on_gpu:
        yield "QLoRA: the base in 4 bits", "about a quarter slower", {"method": "qlora"}
    elif 4 in method.bits and (hyper.bits or method.bits[0]) != 4 and basis.on_gpu:
        yield "the base in 4 bits", "about a quarter slower", {"bits": 4}
    if not candidate.gradient_checkpointing and method.allows_checkpointing:
        change = {"gradient_checkpointing": True}
        yield "gradient checkpointing", "up to half as much compute again", change
    if candidate.packed and not basis.flash:
        yield "rows below each other, not end to end", "padding instead", {"packing": False}
    if basis.gpus > 1 and candidate.sharding in ("auto", "ddp") and method.can_be_split:
        text = f"a part of the model on each of the {basis.gpus} GPUs (fsdp)"
        yield text, "they exchange weights, too", {"sharding": "fsdp"}
    if candidate.micro_batch > 1:
        smaller = candidate.micro_batch // 2
        text = f"micro-batch {candidate.micro_batch} → {smaller}"
        yield text, "a little slower, same result", {"micro_batch": smaller}
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


def _shorter(length: int) -> int:
    """About half of it: a power of two, for which the inspector counts the rows that it cuts."""
    return 1 << (max(1, length * 3 // 5).bit_length() - 1)


def _truncation(candidate: Candidate, shorter: int) -> str:
    """How many rows a shorter length cuts, as exactly as it was counted."""
    basis = candidate.basis
    if basis.max_tokens <= shorter:
        return "nothing: no row is that long"
    cut = basis.share_cut(shorter)
    if cut is not None:
        return f"truncates {100 * cut:.0f} % of rows" if cut >= 0.01 else "truncates under 1 %"
    if basis.p95 <= shorter:
        return "truncates fewer than 5 % of the rows"
    return "truncates more than 5 % of the rows"
