"""The shapes that `plan --json` and `estimate --json` promise to other programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from core.memory.prediction import Prediction
from core.memory.stages import Stages
from core.methods import METHODS
from core.planning.calibration import Measurement
from core.planning.candidates import Candidate, Plan
from core.planning.elsewhere import Managed, Rented, managed, rented
from core.planning.gpus import prices_dated
from core.planning.sources import sources


def plan_as_json(plan: Plan, measured: Sequence[Measurement] = ()) -> dict[str, Any]:
    """`recommended` is an index into `candidates`, or null when nothing fits; `elsewhere` is what
    that candidate, else the first, would take on other GPUs and at managed services."""
    subject = plan.candidates[plan.recommended or 0] if plan.candidates else None
    return {
        "gpu": plan.device if plan.on_gpu else None,
        "device": plan.device,
        "free_bytes": plan.free_bytes,
        "note": plan.note,
        "objective": plan.basis.objective if plan.basis else None,
        "candidates": [candidate_as_json(candidate) for candidate in plan.candidates],
        "recommended": plan.recommended,
        "levers": [asdict(lever) for lever in plan.levers],
        "elsewhere": elsewhere_as_json(subject, measured) if subject else None,
    }


def elsewhere_as_json(candidate: Candidate, measured: Sequence[Measurement] = ()) -> dict[str, Any]:
    """Other GPUs, the cheapest that fits first, and services that train by the token."""
    return {
        "model": candidate.model.id,
        "method": candidate.method,
        "prices_dated": prices_dated(),
        "gpus": [_rented_as_json(one) for one in rented(candidate, measured)],
        "services": [_managed_as_json(one) for one in managed(candidate)],
    }


def _rented_as_json(one: Rented) -> dict[str, Any]:
    return {
        "gpu": one.gpu.name,
        "memory_bytes": one.gpu.memory,
        "peak_bytes": one.candidate.prediction.peak,
        "fits": one.fits,
        "seconds_low": round(one.seconds[0], 1),
        "seconds_high": round(one.seconds[1], 1),
        "dollars_per_hour_low": one.price[0],
        "dollars_per_hour_high": one.price[1],
        "dollars_low": round(one.dollars[0], 4),
        "dollars_high": round(one.dollars[1], 4),
        "time_basis": one.candidate.pace.how,
    }


def _managed_as_json(one: Managed) -> dict[str, Any]:
    return {
        "service": one.service,
        "models": one.models,
        "own_models": one.own_models,
        "prices_dated": one.dated,
        "dollars_low": round(one.dollars[0], 4),
        "dollars_high": round(one.dollars[1], 4),
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
        "objective": candidate.basis.objective,
        "bits": candidate.hyper.bits or METHODS[candidate.method].bits[0],
        "gpus": candidate.basis.gpus,
        "sharding": candidate.sharding,
        "packing": candidate.packed,
        "learning_rate": candidate.hyper.learning_rate,
        "rank": candidate.hyper.rank,
        "epochs": candidate.hyper.epochs,
        "sources": sources(candidate),
        "peak_bytes": candidate.prediction.peak,
        "low_bytes": candidate.prediction.low,
        "high_bytes": candidate.prediction.high,
        "fits": candidate.fits,
        "seconds": _rounded(candidate.seconds, 1),
        "seconds_low": _rounded(candidate.seconds_low, 1),
        "seconds_high": _rounded(candidate.seconds_high, 1),
        "time_basis": candidate.pace.how,
        "runs_measured": candidate.pace.runs,
        "dollars": _rounded(candidate.dollars, 4),
        "dollars_low": _rounded(candidate.dollars_low, 4),
        "dollars_high": _rounded(candidate.dollars_high, 4),
        "why": candidate.why,
    }


def estimate_as_json(
    model: str, method: str, prediction: Prediction, of_run: Stages | None = None
) -> dict[str, Any]:
    """One prediction, in parts that add up to `peak_bytes`; and the peaks of all stages."""
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
        "stages": asdict(of_run) if of_run else None,
    }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
