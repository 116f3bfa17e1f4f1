"""The planner: every sensible model × method for these rows and the memory that is free now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product

from core.errors import UserError
from core.hardware.machine import Gpu, Machine
from core.memory.setup import Sharding
from core.methods import METHODS, MethodName
from core.models.catalogue import ModelCard, load_catalogue
from core.objectives import ObjectiveName
from core.planning.basis import with_device
from core.planning.calibration import Measurement
from core.planning.candidates import Basis, Candidate, Plan
from core.planning.data import DataSize, trained_on, usual_objective
from core.planning.front import front
from core.planning.levers import levers_for
from core.planning.presets import candidate_of
from core.planning.ranking import recommend
from core.planning.retuning import retune
from core.planning.search import USUAL_LENGTH, candidate_for, start_at
from core.planning.settings import settings_of, sharding_refusal
from core.recipe import Recipe
from core.units import GIB, bytes_text, span_text

OFFERED: tuple[MethodName, ...] = ("lora", "qlora", "full")
"""What is planned for unless somebody asks for other methods."""
MOST_PARAMETERS_ON_CPU = 2e9
UNNAMED = 'No GPU was named (--gpu "RTX 4090" does, beside --vram)'


def plan(
    machine: Machine,
    size: DataSize,
    *,
    models: Sequence[ModelCard] | None = None,
    methods: Sequence[MethodName] = (),
    objective: ObjectiveName | None = None,
    seq_length: int | None = None,
    dollars_per_hour: float | None = None,
    free_bytes: int | None = None,
    gpu: str | None = None,
    gpus: int = 1,
    sharding: Sharding = "auto",
    measured: Sequence[Measurement] = (),
    recipe: Recipe | None = None,
) -> Plan:
    """The table for this data on this machine, or for another GPU: one with `free_bytes`, or one
    of presets/gpus.yaml by its name, or both. `sharding`: how several GPUs hold the model, where
    the method can. `measured` corrects the speeds that are assumed. The objective follows from the
    data unless it is given. For a single model every setting is listed that no other one beats;
    with a `recipe` that is the only candidate, as it stands.

    UserError for rows, a GPU or a sharding that the objective, the presets or every method refuse.
    """
    goal = recipe.objective.name if recipe else objective or usual_objective(size.format)
    rows = trained_on(size, goal)
    data = Basis(
        rows.rows, rows.tokens_per_row, rows.p95, rows.max_tokens, 0, False,
        dollars_per_hour=dollars_per_hour, cut_at=rows.cut_at, objective=goal, gpus=gpus,
        padding=rows.padding,
    )  # fmt: skip
    basis = with_device(machine, data, free_bytes, gpu, measured)
    left_out: list[str] = []
    if recipe is not None:
        candidates = [_held(candidate_of(recipe, basis), sharding)]
    else:
        cards = list(models) if models is not None else _worth_listing(load_catalogue(), basis)
        wanted, left_out = _splittable(methods or _offered(basis), cards, basis, sharding)
        candidates = _ranked(_candidates(cards, wanted, basis, seq_length, sharding))
    starred = 0 if candidates and candidates[0].fits else None
    if starred is not None:
        among = sum(one.fits for one in candidates)
        candidates[0] = replace(candidates[0], why=recommend(candidates[0], among=among))
    closest = min(candidates, key=lambda c: c.prediction.high, default=None)
    return Plan(
        device=basis.device if gpu else _device(machine, basis),
        free_bytes=basis.free_bytes,
        on_gpu=basis.on_gpu,
        candidates=tuple(candidates),
        recommended=starred,
        levers=levers_for(closest, retune) if starred is None and closest else (),
        note=_note(machine, basis, candidates, starred, _few(gpus, basis) + left_out),
        basis=basis,
    )


def _offered(basis: Basis) -> tuple[MethodName, ...]:
    """Few and sensible: 4-bit on a CPU saves memory that small models do not need."""
    return tuple(method for method in OFFERED if basis.on_gpu or method != "qlora")


def _splittable(
    methods: Sequence[MethodName], cards: Sequence[ModelCard], basis: Basis, sharding: Sharding
) -> tuple[list[MethodName], list[str]]:
    """Those that the GPUs can hold so, and why others cannot. UserError where none is left."""
    kept: list[MethodName] = []
    refused: list[str] = []
    for method in methods:
        why = cards and sharding_refusal(
            start_at(cards[0], method, basis, USUAL_LENGTH, "auto"), sharding
        )
        if why:
            refused.append(f"{METHODS[method].title} is left out: {why.rstrip('.')}")
        else:
            kept.append(method)
    if refused and not kept:
        raise UserError(f"{refused[0]}.", "Choose another sharding, or auto.")
    return kept, refused


def _held(candidate: Candidate, sharding: Sharding) -> Candidate:
    """The GPUs hold it so, where that is asked for. UserError where they cannot, or where they
    cannot share the rows of its steps."""
    rows, gpus = candidate.hyper.effective_batch, candidate.basis.gpus
    if rows % gpus:
        raise UserError(
            f"{gpus} GPUs cannot share the {rows} rows of a step of this recipe evenly.",
            f"Choose a number of GPUs that divides {rows}.",
        )
    if why := sharding_refusal(settings_of(candidate), sharding):
        raise UserError(why, "Choose another sharding, or auto.")
    return candidate if sharding == "auto" else retune(candidate, sharding=sharding)


def _few(gpus: int, basis: Basis) -> list[str]:
    if basis.gpus >= gpus:
        return []
    have = f"{basis.gpus} GPU{'s' if basis.gpus > 1 else ''}" if basis.on_gpu else "no GPU"
    return [f"This machine has {have}, not {gpus}: planned for what there is"]


def _candidates(
    cards: Sequence[ModelCard],
    methods: Sequence[MethodName],
    basis: Basis,
    seq_length: int | None,
    sharding: Sharding,
) -> Iterable[Candidate]:
    """One for each model and method: what fits is worth no more for leaving memory unused, so the
    quickest that fits dominates the rest. For one model alone, all that is not dominated."""
    for card, method in product(cards, methods):
        several = front(card, method, basis, seq_length, sharding) if len(cards) == 1 else []
        yield from several or [candidate_for(card, method, basis, seq_length, sharding)]


def _ranked(candidates: Iterable[Candidate]) -> list[Candidate]:
    """What fits first, best first; then what does not, the closest first."""
    return sorted(
        candidates,
        key=lambda c: (not c.fits, -c.score if c.fits else c.prediction.high, c.model.id),
    )


def _worth_listing(cards: Sequence[ModelCard], basis: Basis) -> list[ModelCard]:
    """All models on a GPU; on a CPU those that one could wait for."""
    if basis.on_gpu:
        return list(cards)
    return [card for card in cards if card.shape.parameters <= MOST_PARAMETERS_ON_CPU]


def _device(machine: Machine, basis: Basis) -> str:
    gpu = machine.best_gpu()
    if basis.on_gpu and gpu is not None and basis.free_bytes == gpu.free:
        return _gpu_text(gpu)
    if basis.on_gpu:
        return f"a GPU with {bytes_text(basis.free_bytes)} free"
    return f"{machine.cores} CPU cores"


def _gpu_text(gpu: Gpu) -> str:
    total = f" ({bytes_text(gpu.total)})" if gpu.total else ""
    return f"GPU {gpu.index}: {gpu.name or 'unnamed'}{total}"


def _note(
    machine: Machine,
    basis: Basis,
    candidates: Sequence[Candidate],
    starred: int | None,
    more: Sequence[str],
) -> str:
    """What must be said before the table."""
    notes = []
    if not basis.on_gpu:
        reason = machine.gpu_note or "no GPU is usable"
        notes.append(f"{reason[:1].upper()}{reason[1:]}: the run takes place on the CPU")
        if starred is not None and (first := candidates[starred]).seconds is not None:
            expected = span_text(first.seconds_low, first.seconds_high)
            notes.append(f"expect {expected}, and small models only")
    elif basis.free_bytes < 2 * GIB:
        notes.append(f"Only {bytes_text(basis.free_bytes)} of GPU memory are free")
    if len({c.model.id for c in candidates}) == 1 and candidates[0].model.caveat:
        notes.append(candidates[0].model.caveat)
    if basis.on_gpu and basis.flops is None:
        what = "This GPU's speed is not known" if basis.device else UNNAMED
        notes.append(f"{what}, so no times are given")
    return " ".join(f"{text[:1].upper()}{text[1:]}." for text in (*notes, *more))
