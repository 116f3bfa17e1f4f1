"""A plan for people: the table, the star and why, the levers, where else it could run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.objectives import OBJECTIVES
from core.text import clip
from core.units import MISSING, bytes_text, dollars_text, span_text

if TYPE_CHECKING:
    from core.planning.calibration import Measurement
    from core.planning.candidates import Candidate, Plan

MOST_OFFERS_PRINTED = 8
PARTS = ("fsdp", "zero3")
MOST_CANDIDATES_PRINTED = 20


def plan_lines(plan: Plan) -> list[str]:
    """The table for people: what fits first. `again`: activations are computed twice, to save
    their memory; `packed`: rows stand end to end, without padding."""
    free = "" if "free" in plan.device else f", {bytes_text(plan.free_bytes)} free"
    lines = [f"{plan.device}{free}{_goal(plan)}", *([plan.note] if plan.note else []), ""]
    head = f"  {'model':<33} {'method':<11} {'batch':>7} {'length':>6} {'packed':>6} {'again':>5}"
    lines.append(f"{head} {'peak':>9}  {'fits':<4} {'time':>14} {'money':>13}")
    shown = plan.candidates[:MOST_CANDIDATES_PRINTED]
    lines += [_row(one, number == plan.recommended) for number, one in enumerate(shown)]
    if len(plan.candidates) > len(shown):
        lines.append(f"  and {len(plan.candidates) - len(shown)} more (--json has all)")
    if plan.recommended is not None:
        star = plan.candidates[plan.recommended]
        lines += ["", f"★ {star.why}", *_range_lines(star), _source_line(star)]
    for lever in plan.levers:
        lines.append(f"→ {lever.text}: saves {bytes_text(lever.saves)}, {lever.costs}")
    return lines


def _goal(plan: Plan) -> str:
    """What is trained for, and on how many GPUs, where that is not the usual."""
    basis = plan.basis
    if basis is None:
        return ""
    goal = f"; objective {OBJECTIVES[basis.objective].title}" if basis.objective != "sft" else ""
    if basis.gpus == 1 or not plan.candidates:
        return goal
    sharding = plan.candidates[plan.recommended or 0].sharding
    parts = f", each with a part of the model ({sharding})" if sharding in PARTS else ""
    return f"{goal}; {basis.gpus} GPUs together{parts}"


def _range_lines(star: Candidate) -> list[str]:
    """What its time and cost rest on."""
    if star.seconds is None:
        return []
    from core.planning.calibration import pace_text
    from core.planning.speed import DOWNLOAD_BYTES_PER_SECOND

    price = star.basis.dollars_per_hour
    cost = f"${price:g} an hour; " if price is not None else ""
    fetching = ""
    if star.basis.elsewhere or not star.model.cached:
        size = bytes_text(2 * star.model.shape.parameters)
        fetching = f"; with {size} to download, at {DOWNLOAD_BYTES_PER_SECOND / 1e6:.0f} MB/s"
    return [f"  {cost}the speed is {pace_text(star.pace)}{fetching}"]


def _source_line(star: Candidate) -> str:
    """Where the value that matters most is from, and where all others say it."""
    from core.planning.sources import sources

    rate = sources(star)["learning_rate"]
    return (
        f"  learning rate {star.hyper.learning_rate:g} ({rate}); --write and --json have the "
        "source of every value"
    )


def elsewhere_lines(plan: Plan, measured: Sequence[Measurement]) -> list[str]:
    """The first candidate's run on GPUs that one could rent, and at managed services."""
    from core.planning.elsewhere import managed, rented
    from core.planning.gpus import prices_dated

    if not plan.candidates:
        return []
    subject = plan.candidates[plan.recommended or 0]
    offers = [one for one in rented(subject, measured) if one.fits][:MOST_OFFERS_PRINTED]
    lines = [
        "",
        f"{subject.model.id} with {subject.method} elsewhere (rents as of {prices_dated()})",
    ]
    for offer in offers:
        money = dollars_text(*offer.dollars)
        lines.append(f"  {offer.gpu.name:<36} {span_text(*offer.seconds):>16}  {money}")
    for service in managed(subject):
        name = f"{service.service} ({service.models})"
        lines.append(f"  {name:<53}  {dollars_text(*service.dollars)} as of {service.dated}")
    return lines


def _row(candidate: Candidate, starred: bool) -> str:
    batch = f"{candidate.micro_batch}×{candidate.gradient_accumulation}"
    low, high = candidate.dollars_low, candidate.dollars_high
    money = MISSING if low is None or high is None else dollars_text(low, high)
    time = span_text(candidate.seconds_low, candidate.seconds_high)
    again = "yes" if candidate.gradient_checkpointing else "no"
    packed = "yes" if candidate.packed else "no"
    return (
        f"{'★' if starred else ' '} {clip(candidate.model.id, 33):<33} {candidate.method:<11} "
        f"{batch:>7} {candidate.seq_length:>6} {packed:>6} {again:>5} "
        f"{bytes_text(candidate.prediction.peak):>9}  {'yes' if candidate.fits else 'no':<4} "
        f"{time:>14} {money:>13}"
    )
