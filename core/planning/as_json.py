"""The shapes that `plan --json` and `estimate --json` promise to other programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from core.memory.prediction import Prediction
from core.planning.candidates import Candidate, Plan


def plan_as_json(plan: Plan) -> dict[str, Any]:
    """`recommended` is an index into `candidates`, or null when nothing fits."""
    return {
        "gpu": plan.device if plan.on_gpu else None,
        "device": plan.device,
        "free_bytes": plan.free_bytes,
        "note": plan.note,
        "candidates": [candidate_as_json(candidate) for candidate in plan.candidates],
        "recommended": plan.recommended,
        "levers": [asdict(lever) for lever in plan.levers],
    }


def candidate_as_json(candidate: Candidate) -> dict[str, Any]:
    """One row of the table."""
    return {
        "model": candidate.model.id,
        "method": candidate.method,
        "micro_batch": candidate.micro_batch,
        "gradient_accumulation": candidate.gradient_accumulation,
        "seq_length": candidate.seq_length,
        "gradient_checkpointing": candidate.gradient_checkpointing,
        "optimizer": candidate.optimizer,
        "learning_rate": candidate.hyper.learning_rate,
        "rank": candidate.hyper.rank,
        "epochs": candidate.hyper.epochs,
        "peak_bytes": candidate.prediction.peak,
        "low_bytes": candidate.prediction.low,
        "high_bytes": candidate.prediction.high,
        "fits": candidate.fits,
        "seconds": _rounded(candidate.seconds, 1),
        "seconds_low": _rounded(candidate.seconds_low, 1),
        "seconds_high": _rounded(candidate.seconds_high, 1),
        "dollars": _rounded(candidate.dollars, 4),
        "why": candidate.why,
    }


def estimate_as_json(model: str, method: str, prediction: Prediction) -> dict[str, Any]:
    """One prediction, in parts that add up to `peak_bytes`."""
    return {
        "model": model,
        "method": method,
        "peak_bytes": prediction.peak,
        "low_bytes": prediction.low,
        "high_bytes": prediction.high,
        "allocated_bytes": prediction.allocated,
        "reserved_bytes": prediction.reserved,
        "parts": asdict(prediction.parts),
        "how": prediction.how,
        "note": prediction.note,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
