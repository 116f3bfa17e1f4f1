"""One way to train a model, and what it needs: memory, time and money."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd

from core.errors import UserError
from core.memory.formula import predict_setup
from core.memory.prediction import Prediction
from core.memory.setup import Setup, Sharding
from core.memory.sharding import check_sharding
from core.methods import METHODS, MethodName
from core.models.catalogue import ModelCard
from core.models.families import keeps_rows_apart
from core.objectives import OBJECTIVES
from core.planning.candidates import Basis, Candidate, Hyper
from core.planning.gpus import likely_flops
from core.planning.ranking import explain, score
from core.planning.speed import (
    seconds_per_judged_token,
    seconds_per_token,
    start_seconds,
)
from core.planning.work import Work, forwards_beside
from core.recipe import Switch
from core.training.choices import packs as trainer_packs

TOGETHER = 0.9  # of each GPU's speed is left where several exchange their gradients
IN_PARTS = 1 - 1.5 * (1 - TOGETHER)
"""Where they exchange the weights too: half as much again is moved (ZeRO, arXiv 1910.02054)."""
UNDER_A_MASK, UNDER_A_MASK_ON_CPU = 4.0, 2.5
"""Times the attention of a causal row as long as all packed ones. A mask keeps the kernel from
leaving out the half that lies ahead, and a GPU from its fastest kernel, which is taken to be twice
as fast: an estimate. On a CPU 2.0, 2.5 and 3.0 were measured for 512, 1200 and 2400 packed tokens
at a width of 576."""
SHARDINGS: tuple[Sharding, ...] = ("ddp", "fsdp", "zero3")


@dataclass(frozen=True, slots=True)
class Settings:
    """All that memory and time depend on. `sharding`: how several GPUs hold the model."""

    card: ModelCard
    method: MethodName
    hyper: Hyper
    basis: Basis
    length: int
    micro_batch: int = 1
    accumulation: int = 1
    checkpointing: bool = True
    optimizer: str = "adamw"
    sharding: Sharding = "auto"

    def with_rows(self, micro_batch: int) -> Settings:
        """Another micro-batch, the effective batch kept; several GPUs share its rows evenly."""
        accumulation = max(1, -(-self.hyper.effective_batch // micro_batch))
        if self.basis.gpus > 1:
            even = self.basis.gpus // gcd(self.basis.gpus, micro_batch)
            accumulation = -(-accumulation // even) * even
        return Settings(  # three times as fast as `replace`, and called for every candidate
            self.card,
            self.method,
            self.hyper,
            self.basis,
            self.length,
            micro_batch,
            accumulation,
            self.checkpointing,
            self.optimizer,
            self.sharding,
        )

    def with_packing(self, packing: Switch) -> Settings:
        """Rows end to end, or below each other."""
        if self.hyper.packing is packing:
            return self
        return replace(self, hyper=replace(self.hyper, packing=packing))

    @property
    def in_parts(self) -> bool:
        """Whether each of several GPUs holds a part of the model."""
        return self.basis.gpus > 1 and self.sharding in ("fsdp", "zero3")


def settings_of(candidate: Candidate) -> Settings:
    """Those that a candidate was made of."""
    return Settings(
        candidate.model,
        candidate.method,
        candidate.hyper,
        candidate.basis,
        candidate.seq_length,
        candidate.micro_batch,
        candidate.gradient_accumulation,
        candidate.gradient_checkpointing,
        candidate.optimizer,
        candidate.sharding,
    )


def packs(settings: Settings, wanted: Switch | None = None) -> bool:
    """Whether rows stand end to end in a micro-batch: as the trainer decides it. `wanted`: in place
    of what the settings say."""
    return _packing(settings, settings.hyper.packing if wanted is None else wanted)[0]


def packing_refusal(settings: Settings) -> str | None:
    """Why rows cannot stand end to end here; None where they can."""
    if settings.in_parts:
        return "GPUs that hold parts of the model pack no rows"
    possible, why = _packing(settings, True)
    return None if possible else why.partition(";")[0]


def _packing(settings: Settings, wanted: Switch) -> tuple[bool, str]:
    return trainer_packs(
        wanted,
        OBJECTIVES[settings.basis.objective],
        METHODS[settings.method],
        settings.basis.flash,
        lambda: not settings.in_parts and keeps_rows_apart(settings.card.shape),
    )


def sharding_refusal(settings: Settings, sharding: Sharding) -> str | None:
    """Why several GPUs cannot hold the model so, whatever the optimiser; None where they can."""
    if settings.basis.gpus == 1 or sharding not in ("fsdp", "zero3"):
        return None
    method = METHODS[settings.method]
    if not method.can_be_split:
        return f"{method.title} trains on whole copies of the model only."
    try:
        split = replace(settings, sharding=sharding, optimizer="adamw")
        check_sharding(_setup(split, packed=False))
    except UserError as error:
        return error.message
    return None


def longest(settings: Settings) -> int:
    """The longest row that can come up: memory is predicted for it."""
    return max(8, min(settings.length, settings.basis.max_tokens))


def predicted(settings: Settings) -> Prediction:
    """The memory that the settings need for their longest rows, on the fullest of the GPUs: as
    steps on this device have shown it, where any have been measured."""
    basis, setup = settings.basis, _setup(settings, packed=packs(settings))
    if not basis.on_gpu:
        return predict_setup(setup, "cpu")
    return basis.memory.apply(setup, predict_setup(setup))


def _setup(settings: Settings, *, packed: bool) -> Setup:
    """Packed rows are no more tokens than padded ones; without flash attention a mask of all of
    them by all of them keeps them apart."""
    basis, hyper = settings.basis, settings.hyper
    return Setup(
        settings.card.shape,
        settings.method,
        hyper.rank,
        hyper.targets,
        settings.micro_batch,
        longest(settings),
        settings.checkpointing,
        settings.optimizer,
        accumulates=settings.accumulation > basis.gpus,
        dropout=hyper.dropout,
        bits=hyper.bits,
        layers=hyper.layers,
        virtual_tokens=hyper.virtual_tokens,
        objective=basis.objective,
        gpus=basis.gpus,
        sharding=settings.sharding,
        one_mask=packed and not basis.flash,
    )


def priced(settings: Settings, prediction: Prediction | None = None) -> Candidate:
    """The candidate of these settings, with its memory (unless that is known), time and money."""
    basis, prediction = settings.basis, prediction or predicted(settings)
    pace = basis.calibration.pace(settings.method, settings.card.shape.parameters, basis.objective)
    seconds = _seconds(settings, pace.factor)
    compared = effort(settings) if seconds is None else seconds
    price = basis.dollars_per_hour
    return Candidate(
        model=settings.card,
        method=settings.method,
        micro_batch=settings.micro_batch,
        gradient_accumulation=settings.accumulation,
        seq_length=settings.length,
        gradient_checkpointing=settings.checkpointing,
        optimizer=settings.optimizer,
        prediction=prediction,
        fits=prediction.high <= basis.free_bytes,
        seconds=seconds,
        dollars=None if price is None or seconds is None else seconds / 3600 * price,
        why=explain(settings.card, prediction, basis, settings.length),
        hyper=settings.hyper,
        basis=basis,
        score=score(settings.card, settings.method, basis, compared, settings.length),
        pace=pace,
        packed=packs(settings),
        sharding=settings.sharding,
    )


def effort_of(candidate: Candidate) -> float:
    """Its seconds; on a device of unknown speed a number that only compares."""
    return effort(settings_of(candidate)) if candidate.seconds is None else candidate.seconds


def effort(settings: Settings) -> float:
    """The seconds that they take; on a device of unknown speed a number that only compares."""
    basis = settings.basis
    if basis.flops is None:
        likely = likely_flops(basis.free_bytes)
        settings = replace(settings, basis=replace(basis, flops=likely))
    pace = basis.calibration.pace(settings.method, settings.card.shape.parameters, basis.objective)
    return _seconds(settings, pace.factor) or 0.0


def _seconds(settings: Settings, factor: float) -> float | None:
    """Seconds for all tokens and the start of the run; None for a device of unknown speed."""
    basis, shape, hyper = settings.basis, settings.card.shape, settings.hyper
    if basis.flops is None:
        return None
    together = IN_PARTS if settings.in_parts else TOGETHER
    flops = basis.flops * (1 if basis.gpus == 1 else basis.gpus * together)
    per_row, work = min(basis.tokens_per_row, settings.length), work_of(settings)
    packed, reach = packs(settings), None
    if packed and not basis.flash:
        reach = settings.micro_batch * per_row
        reach *= UNDER_A_MASK if basis.on_gpu else UNDER_A_MASK_ON_CPU
    each = seconds_per_token(
        shape,
        work,
        tokens_per_row=per_row,
        micro_batch=settings.micro_batch,
        gradient_checkpointing=settings.checkpointing,
        flops=flops,
        on_gpu=basis.on_gpu,
        padding=0.0 if packed else basis.padding,
        reach=reach,
    )
    seconds = basis.rows * basis.learned_tokens(settings.length) * hyper.epochs * each
    if beside := forwards_beside(basis.objective, hyper.epochs):
        judged = basis.rows * per_row * beside * OBJECTIVES[basis.objective].sequences
        seconds += judged * seconds_per_judged_token(
            shape, work, tokens_per_row=per_row, flops=flops, on_gpu=basis.on_gpu
        )
    there = settings.card.cached and not basis.elsewhere
    return start_seconds(shape, on_gpu=basis.on_gpu, there=there) + factor * seconds


def work_of(settings: Settings) -> Work:
    """What the time of these settings depends on."""
    hyper = settings.hyper
    return Work(
        settings.method,
        settings.basis.objective,
        hyper.bits,
        hyper.rank,
        hyper.targets,
        hyper.layers,
        hyper.virtual_tokens,
    )
