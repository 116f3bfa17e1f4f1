"""The search for the settings that fit: micro-batch, checkpointing, optimiser; and the pricing of
one set of settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.memory.formula import predict_setup
from core.memory.prediction import Prediction
from core.memory.setup import Setup
from core.methods import METHODS, Bits, MethodName
from core.models.catalogue import ModelCard
from core.objectives import OBJECTIVES
from core.planning.candidates import Basis, Candidate, Hyper
from core.planning.defaults import defaults
from core.planning.ranking import explain, score
from core.planning.speed import (
    UNKNOWN_GPU_FLOPS,
    seconds_per_judged_token,
    seconds_per_token,
    start_seconds,
)
from core.planning.work import Work, forwards_beside
from core.recipe import Switch

USUAL_LENGTH = 2048
LENGTH_STEP = 64
TOKENS_ON_CPU = 2048  # in a micro-batch: larger ones are no faster there
TOGETHER = 0.9  # of each GPU's speed is left where several exchange their gradients
MOST_CUT = 0.05
"""The share of rows that may be cut so that a model fits at all; more is for a person to decide."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One way to train a model: all that memory and time depend on."""

    card: ModelCard
    method: MethodName
    hyper: Hyper
    basis: Basis
    length: int
    micro_batch: int = 1
    accumulation: int = 1
    checkpointing: bool = True
    optimizer: str = "adamw"

    def with_rows(self, micro_batch: int) -> Settings:
        """Another micro-batch, the effective batch kept."""
        accumulation = max(1, -(-self.hyper.effective_batch // micro_batch))
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
        )


def optimizers(method: MethodName) -> tuple[str, ...]:
    """Those that are tried, the usual first: an adapter's states are too small to compress."""
    weights = METHODS[method].kind == "weights"
    return ("adamw", "paged-adamw-8bit") if weights else ("adamw",)


def checkpointings(method: MethodName) -> tuple[bool, ...]:
    """Whether activations can be computed twice."""
    return (False, True) if METHODS[method].allows_checkpointing else (False,)


def candidate_for(
    card: ModelCard, method: MethodName, basis: Basis, seq_length: int | None = None
) -> Candidate:
    """The quickest setting that fits. Where none does, the longest length below that cuts few
    rows; where none of those does either, the leanest there is."""
    hyper = defaults(basis.rows, card.shape.parameters, method, basis.objective)
    length = seq_length or default_length(basis, card)
    whole = Settings(card, method, hyper, basis, length)
    found = _quickest(whole)
    if found.fits or seq_length is not None:
        return found
    shorter = (_quickest(replace(whole, length=at)) for at in lengths_that_cut_few(basis, length))
    return next((one for one in shorter if one.fits), found)


def lengths_that_cut_few(basis: Basis, below: int) -> list[int]:
    """Usual lengths below one, the longest first, that leave nearly all rows whole."""
    usual = sorted((length for length, _ in basis.cut_at if length < below), reverse=True)
    shares = ((length, basis.share_cut(length)) for length in usual)
    return [length for length, share in shares if share is not None and share <= MOST_CUT]


def refitted(candidate: Candidate, basis: Basis) -> Candidate:
    """The same model, method, length and hyper-parameters in another memory: the batch, the
    checkpointing and the optimiser are chosen anew."""
    return _quickest(replace(_settings_of(candidate), basis=basis))


def with_method(candidate: Candidate, method: MethodName) -> Candidate:
    """The same model, length and data by another method, with what is usual and fits for that."""
    return candidate_for(candidate.model, method, candidate.basis, candidate.seq_length)


def _quickest(start: Settings) -> Candidate:
    """The leanest settings are tried first: where they do not fit, nothing does."""
    usual = optimizers(start.method)
    leanest = replace(
        start, optimizer=usual[-1], checkpointing=checkpointings(start.method)[-1]
    ).with_rows(1)
    prediction = predicted(leanest)
    if prediction.high <= start.basis.free_bytes:
        for optimizer in usual:
            fitting = _fitting(replace(start, optimizer=optimizer))
            if fitting:
                return min(fitting, key=lambda c: (effort(c), c.gradient_checkpointing))
    return priced(leanest, prediction)


def _fitting(start: Settings) -> list[Candidate]:
    """With the most rows that fit, without checkpointing and with it, where that may be quicker."""
    found = []
    for checkpointing in checkpointings(start.method):
        largest = _largest_fitting(replace(start, checkpointing=checkpointing))
        if largest is not None:
            found.append(priced(*largest))
            if largest[0].micro_batch == _most_rows(start):
                break  # computing anything twice could only take longer
    return found


def default_length(basis: Basis, card: ModelCard) -> int:
    """Long enough for every row up to 2,048 tokens; beyond that for 95 rows in 100, but for texts,
    which are split."""
    wanted = basis.max_tokens
    if wanted > USUAL_LENGTH:
        wanted = USUAL_LENGTH if basis.objective == "pretrain" else max(USUAL_LENGTH, basis.p95)
    wanted = -(-max(wanted, LENGTH_STEP) // LENGTH_STEP) * LENGTH_STEP
    return min(wanted, card.shape.context or wanted)


def _largest_fitting(settings: Settings) -> tuple[Settings, Prediction] | None:
    """With the most rows a micro-batch can hold, found by halving the range of sizes."""
    sizes = [_most_rows(settings)]
    while sizes[-1] > 1:
        sizes.append(sizes[-1] // 2)
    best, low, high = None, 0, len(sizes)
    at = low  # the largest is tried first: it mostly fits
    while low < high:
        tried = settings.with_rows(sizes[at])
        prediction = predicted(tried)
        if prediction.high <= settings.basis.free_bytes:
            best, high = (tried, prediction), at
        else:
            low = at + 1
        at = (low + high) // 2
    return best


def _most_rows(settings: Settings) -> int:
    """On a CPU a larger micro-batch is no faster, it only needs more memory; several GPUs share the
    rows of a step."""
    micro = max(1, settings.hyper.effective_batch // settings.basis.gpus)
    on_cpu = not settings.basis.on_gpu
    while on_cpu and micro > 1 and micro * _longest(settings) > TOKENS_ON_CPU:
        micro //= 2
    return micro


def _longest(settings: Settings) -> int:
    """The longest row that can come up: memory is predicted for it."""
    return max(8, min(settings.length, settings.basis.max_tokens))


def predicted(settings: Settings) -> Prediction:
    """The memory that the settings need for their longest rows, on the fullest of the GPUs: as
    steps on this device have shown it, where any have been measured."""
    basis, setup = settings.basis, _setup(settings)
    if not basis.on_gpu:
        return predict_setup(setup, "cpu")
    return basis.memory.apply(setup, predict_setup(setup))


def _setup(settings: Settings) -> Setup:
    basis, hyper = settings.basis, settings.hyper
    return Setup(
        settings.card.shape,
        settings.method,
        hyper.rank,
        hyper.targets,
        settings.micro_batch,
        _longest(settings),
        settings.checkpointing,
        settings.optimizer,
        accumulates=settings.accumulation > basis.gpus,
        dropout=hyper.dropout,
        bits=hyper.bits,
        layers=hyper.layers,
        virtual_tokens=hyper.virtual_tokens,
        objective=basis.objective,
        gpus=basis.gpus,
    )


def priced(settings: Settings, prediction: Prediction | None = None) -> Candidate:
    """The candidate of these settings, with its memory (unless that is known), time and money."""
    basis, prediction = settings.basis, prediction or predicted(settings)
    pace = basis.calibration.pace(settings.method, settings.card.shape.parameters, basis.objective)
    seconds = _seconds(settings, pace.factor)
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
        score=score(settings.card, settings.method, basis, seconds, settings.length),
        pace=pace,
    )


def _seconds(settings: Settings, factor: float) -> float | None:
    """Seconds for all tokens and the start of the run; None for a device of unknown speed."""
    basis, shape, hyper = settings.basis, settings.card.shape, settings.hyper
    if basis.flops is None:
        return None
    flops = basis.flops * (1 if basis.gpus == 1 else basis.gpus * TOGETHER)
    per_row, work = min(basis.tokens_per_row, settings.length), work_of(settings)
    each = seconds_per_token(
        shape,
        work,
        tokens_per_row=per_row,
        micro_batch=settings.micro_batch,
        gradient_checkpointing=settings.checkpointing,
        flops=flops,
        on_gpu=basis.on_gpu,
        padding=0.0 if packs(settings) else basis.padding,
    )
    seconds = basis.rows * basis.learned_tokens(settings.length) * hyper.epochs * each
    if beside := forwards_beside(basis.objective, hyper.epochs):
        judged = basis.rows * per_row * beside * OBJECTIVES[basis.objective].sequences
        seconds += judged * seconds_per_judged_token(
            shape, work, tokens_per_row=per_row, flops=flops, on_gpu=basis.on_gpu
        )
    return start_seconds(shape, on_gpu=basis.on_gpu) + factor * seconds


def packs(settings: Settings) -> bool:
    """Whether rows stand end to end in a micro-batch: as the trainer decides it, by itself only
    with flash attention, which needs no mask for that."""
    basis, wanted = settings.basis, settings.hyper.packing
    possible = OBJECTIVES[basis.objective].is_of_tokens
    if wanted is False or not possible or METHODS[settings.method].kind == "soft-prompt":
        return False
    return basis.flash or wanted is True


def effort(candidate: Candidate) -> float:
    """Its seconds; on a device of unknown speed a number that only compares."""
    if candidate.seconds is not None:
        return candidate.seconds
    settings = _settings_of(candidate)
    known = replace(settings, basis=replace(settings.basis, flops=UNKNOWN_GPU_FLOPS))
    return _seconds(known, 1.0) or 0.0


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


def retune(
    candidate: Candidate,
    *,
    method: MethodName | None = None,
    seq_length: int | None = None,
    micro_batch: int | None = None,
    gradient_accumulation: int | None = None,
    gradient_checkpointing: bool | None = None,
    optimizer: str | None = None,
    rank: int | None = None,
    targets: str | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    bits: Bits | None = None,
    layers: int | None = None,
    virtual_tokens: int | None = None,
    packing: Switch | None = None,
    basis: Basis | None = None,
) -> Candidate:
    """The candidate with some knobs turned, priced anew. A turned rank takes alpha along, a turned
    micro-batch the accumulation, so that the effective batch stays; another method or objective
    brings the hyper-parameters that are usual for it."""
    before = _settings_of(candidate)
    hyper = _hyper_for(before, method or before.method, basis or before.basis)
    if rank is not None:
        hyper = replace(hyper, rank=rank, alpha=hyper.alpha * rank / hyper.rank)
    hyper = replace(
        hyper,
        targets=targets or hyper.targets,
        epochs=epochs or hyper.epochs,
        learning_rate=learning_rate or hyper.learning_rate,
        bits=bits or hyper.bits,
        layers=layers or hyper.layers,
        virtual_tokens=virtual_tokens or hyper.virtual_tokens,
        packing=hyper.packing if packing is None else packing,
    )
    after = replace(
        before,
        method=method or before.method,
        basis=basis or before.basis,
        length=seq_length or before.length,
        optimizer=optimizer or before.optimizer,
        checkpointing=before.checkpointing
        if gradient_checkpointing is None
        else gradient_checkpointing,
    )
    if True not in checkpointings(after.method):
        after = replace(after, checkpointing=False)
    if gradient_accumulation is not None:
        micro = micro_batch or after.micro_batch
        hyper = replace(hyper, effective_batch=micro * gradient_accumulation)
    after = replace(after, hyper=hyper)
    turned = micro_batch is not None or gradient_accumulation is not None
    return priced(after.with_rows(micro_batch or after.micro_batch) if turned else after)


def _hyper_for(before: Settings, method: MethodName, basis: Basis) -> Hyper:
    """As they were, but for what follows from another method or objective."""
    hyper = before.hyper
    if method == before.method and basis.objective == before.basis.objective:
        return hyper
    parameters = before.card.shape.parameters
    usual = defaults(basis.rows, parameters, method, basis.objective)
    bits = hyper.bits if hyper.bits in METHODS[method].bits else None
    return replace(usual, targets=hyper.targets, effective_batch=hyper.effective_batch, bits=bits)


def _settings_of(candidate: Candidate) -> Settings:
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
    )
