"""The search for the settings that fit: micro-batch, checkpointing, optimiser; and the pricing of
one set of settings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.memory.formula import predict
from core.memory.prediction import Prediction
from core.methods import MethodName
from core.models.catalogue import ModelCard
from core.planning.candidates import Basis, Candidate, Hyper
from core.planning.defaults import defaults
from core.planning.ranking import explain, score
from core.planning.speed import seconds_per_token, start_seconds

USUAL_LENGTH = 2048
LENGTH_STEP = 64
TOKENS_ON_CPU = 2048  # in a micro-batch: larger ones are no faster there
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "lora": ("adamw",),
    "qlora": ("adamw",),
    "full": ("adamw", "paged-adamw-8bit"),
}


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


def candidate_for(
    card: ModelCard, method: MethodName, basis: Basis, seq_length: int | None = None
) -> Candidate:
    """The quickest setting that fits, or the leanest there is where none does."""
    hyper = defaults(basis.rows, card.shape.parameters, method)
    length = seq_length or default_length(basis, card)
    return _quickest(Settings(card, method, hyper, basis, length))


def refitted(candidate: Candidate, basis: Basis) -> Candidate:
    """The same model, method, length and hyper-parameters in another memory: the batch, the
    checkpointing and the optimiser are chosen anew."""
    return _quickest(replace(_settings_of(candidate), basis=basis))


def _quickest(start: Settings) -> Candidate:
    for optimizer in OPTIMIZERS[start.method]:
        tries = (
            replace(start, checkpointing=checkpointing, optimizer=optimizer)
            for checkpointing in (False, True)
        )
        fitting = [priced(found) for settings in tries if (found := _largest_fitting(settings))]
        if fitting:
            return min(fitting, key=lambda c: (c.seconds or 0.0, c.gradient_checkpointing))
    return priced(replace(start, optimizer=OPTIMIZERS[start.method][-1]).with_rows(1))


def default_length(basis: Basis, card: ModelCard) -> int:
    """Long enough for every row up to 2,048 tokens; beyond that for 95 rows in 100."""
    wanted = basis.max_tokens
    if wanted > USUAL_LENGTH:
        wanted = max(USUAL_LENGTH, basis.p95)
    wanted = -(-max(wanted, LENGTH_STEP) // LENGTH_STEP) * LENGTH_STEP
    return min(wanted, card.shape.context or wanted)


def _largest_fitting(settings: Settings) -> Settings | None:
    """With the most rows a micro-batch can hold, halving from the effective batch."""
    if not _fits(settings.with_rows(1)):
        return None
    micro = _most_rows(settings)
    while not _fits(found := settings.with_rows(micro)):
        micro //= 2
    return found


def _fits(settings: Settings) -> bool:
    return predicted(settings).high <= settings.basis.free_bytes


def _most_rows(settings: Settings) -> int:
    """On a CPU a larger micro-batch is no faster, it only needs more memory."""
    micro = settings.hyper.effective_batch
    on_cpu = not settings.basis.on_gpu
    while on_cpu and micro > 1 and micro * _longest(settings) > TOKENS_ON_CPU:
        micro //= 2
    return micro


def _longest(settings: Settings) -> int:
    """The longest row that can come up: memory is predicted for it."""
    return max(8, min(settings.length, settings.basis.max_tokens))


def predicted(settings: Settings) -> Prediction:
    """The memory that the settings need for their longest rows."""
    return predict(
        settings.card.shape,
        settings.method,
        settings.hyper.rank,
        settings.hyper.targets,
        settings.micro_batch,
        _longest(settings),
        settings.checkpointing,
        settings.optimizer,
        device="cuda" if settings.basis.on_gpu else "cpu",
        accumulates=settings.accumulation > 1,
        dropout=settings.hyper.dropout,
    )


def priced(settings: Settings) -> Candidate:
    """The candidate of these settings, with its memory, time and money."""
    basis, prediction = settings.basis, predicted(settings)
    pace = basis.calibration.pace(settings.method, settings.card.shape.parameters)
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
        why=explain(settings.card, prediction, basis.free_bytes),
        hyper=settings.hyper,
        basis=basis,
        score=score(settings.card, settings.method, basis, seconds),
        pace=pace,
    )


def _seconds(settings: Settings, factor: float) -> float | None:
    """Seconds for all tokens and the start of the run; None for a device of unknown speed."""
    basis, shape = settings.basis, settings.card.shape
    if basis.flops is None:
        return None
    per_row = min(basis.tokens_per_row, settings.length)
    each = factor * seconds_per_token(
        shape,
        settings.method,
        tokens_per_row=per_row,
        micro_batch=settings.micro_batch,
        gradient_checkpointing=settings.checkpointing,
        flops=basis.flops,
        on_gpu=basis.on_gpu,
    )
    tokens = basis.rows * per_row * settings.hyper.epochs
    return start_seconds(shape, on_gpu=basis.on_gpu) + tokens * each


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
    basis: Basis | None = None,
) -> Candidate:
    """The candidate with some knobs turned, priced anew. A turned rank takes alpha along, and a
    turned micro-batch the accumulation, so that the effective batch stays."""
    before = _settings_of(candidate)
    hyper = before.hyper
    if rank is not None:
        hyper = replace(hyper, rank=rank, alpha=hyper.alpha * rank / hyper.rank)
    hyper = replace(
        hyper,
        targets=targets or hyper.targets,
        epochs=epochs or hyper.epochs,
        learning_rate=learning_rate or hyper.learning_rate,
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
    if gradient_accumulation is not None:
        micro = micro_batch or after.micro_batch
        hyper = replace(hyper, effective_batch=micro * gradient_accumulation)
    after = replace(after, hyper=hyper)
    turned = micro_batch is not None or gradient_accumulation is not None
    return priced(after.with_rows(micro_batch or after.micro_batch) if turned else after)


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
