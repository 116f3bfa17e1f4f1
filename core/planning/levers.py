"""What to change so that a run fits: each lever with what it saves and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from core.planning.candidates import Candidate, Lever

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
    if candidate.method == "full":
        yield "LoRA instead of full", "trains 1-2 % of the weights", {"method": "lora"}
    if candidate.method != "qlora" and basis.on_gpu:
        yield "QLoRA: the base in 4 bits", "about a quarter slower", {"method": "qlora"}
    if not candidate.gradient_checkpointing:
        change = {"gradient_checkpointing": True}
        yield "gradient checkpointing", "up to half as much compute again", change
    if candidate.micro_batch > 1:
        smaller = candidate.micro_batch // 2
        text = f"micro-batch {candidate.micro_batch} → {smaller}"
        yield text, "a little slower, same result", {"micro_batch": smaller}
    if (shorter := min(candidate.seq_length, basis.max_tokens) // 2) >= SHORTEST:
        text = f"length {candidate.seq_length} → {shorter}"
        yield text, _truncation(candidate, shorter), {"seq_length": shorter}
    if candidate.optimizer == "adamw" and basis.on_gpu:
        change8 = {"optimizer": "paged-adamw-8bit"}
        yield "8-bit paged AdamW", "slightly noisier updates", change8
    if candidate.method != "full" and hyper.rank > 8:
        yield f"rank {hyper.rank} → 8", "less room to learn", {"rank": 8}
    if candidate.method != "full" and hyper.targets == "all-linear":
        yield "adapters on attention only", "learns less", {"targets": "attention-all"}


def _truncation(candidate: Candidate, shorter: int) -> str:
    """How many rows a shorter length cuts, as exactly as it was counted."""
    basis = candidate.basis
    if basis.max_tokens <= shorter:
        return "nothing: no row is that long"
    counted = [rows for length, rows in basis.cut_at if length == shorter]
    if counted and basis.rows:
        share = 100 * counted[0] / basis.rows
        return f"truncates {share:.0f} % of the rows" if share >= 1 else "truncates under 1 %"
    if basis.p95 <= shorter:
        return "truncates fewer than 5 % of the rows"
    return "truncates more than 5 % of the rows"
