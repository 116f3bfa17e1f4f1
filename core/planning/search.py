"""The search for the settings that fit and are quickest: micro-batch, checkpointing, optimiser,
packing, and the length where a few rows may be cut."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from core.memory.prediction import Prediction
from core.memory.setup import Sharding
from core.methods import METHODS, MethodName
from core.models.catalogue import ModelCard
from core.planning.candidates import Basis, Candidate
from core.planning.defaults import defaults
from core.planning.settings import (
    Settings,
    effort,
    effort_of,
    longest,
    packs,
    predicted,
    priced,
    settings_of,
    sharding_refusal,
)
from core.planning.speed import padded

USUAL_LENGTH = 2048
LENGTH_STEP = 64
TOKENS_ON_CPU = 2048  # in a micro-batch: larger ones are no faster there
MOST_CUT = 0.05
"""The share of rows that may be cut so that a model fits at all; more is for a person to decide."""
WORTH_IT = 0.03
"""The share of the time that packing under a mask must save to be proposed: the estimate of what
such attention costs is no better than that."""


def optimizers(settings: Settings) -> tuple[str, ...]:
    """Those that are tried, the usual first: an adapter's states are too small to compress, states
    in 8 bits cannot be split, and only a GPU has RAM to page them to."""
    weights = METHODS[settings.method].kind == "weights"
    packed = weights and settings.basis.on_gpu and not settings.in_parts
    return ("adamw", "paged-adamw-8bit") if packed else ("adamw",)


def checkpointings(method: MethodName) -> tuple[bool, ...]:
    """Whether activations can be computed twice."""
    return (False, True) if METHODS[method].allows_checkpointing else (False,)


def packings(settings: Settings) -> tuple[bool, ...]:
    """Below each other, and where that can be end to end. Under a mask that costs attention to save
    padding, which is not proposed where the padding was never counted."""
    known = settings.basis.flash or settings.basis.padding is not None
    return (False, True) if known and packs(settings, True) else (False,)


def candidate_for(
    card: ModelCard,
    method: MethodName,
    basis: Basis,
    seq_length: int | None = None,
    sharding: Sharding = "auto",
) -> Candidate:
    """The quickest setting that fits. Where none does, the longest length below that cuts few
    rows; where none of those does either, the leanest there is."""
    length = whole_length(basis, card, seq_length)
    whole = start_at(card, method, basis, length, sharding)
    found = _quickest(whole)
    if found.fits or seq_length is not None:
        return found
    shorter = (_quickest(replace(whole, length=at)) for at in lengths_that_cut_few(basis, length))
    return next((one for one in shorter if one.fits), found)


def start_at(
    card: ModelCard, method: MethodName, basis: Basis, length: int, sharding: Sharding
) -> Settings:
    """With the usual hyper-parameters. A method that cannot be split so has a copy on each GPU."""
    hyper = defaults(basis.rows, card.shape.parameters, method, basis.objective, basis.gpus)
    start = Settings(card, method, hyper, basis, length, sharding=sharding)
    return replace(start, sharding="auto") if sharding_refusal(start, sharding) else start


def lengths_that_cut_few(basis: Basis, below: int) -> list[int]:
    """Usual lengths below one, the longest first, that leave nearly all rows whole."""
    usual = sorted((length for length, _ in basis.cut_at if length < below), reverse=True)
    shares = ((length, basis.share_cut(length)) for length in usual)
    return [length for length, share in shares if share is not None and share <= MOST_CUT]


def refitted(candidate: Candidate, basis: Basis) -> Candidate:
    """The same model, method, length and hyper-parameters in another memory: the batch, the
    checkpointing, the optimiser and the packing are chosen anew."""
    return _quickest(replace(settings_of(candidate), basis=basis))


def with_method(candidate: Candidate, method: MethodName) -> Candidate:
    """The same model, length and data by another method, with what is usual and fits for that."""
    return candidate_for(
        candidate.model, method, candidate.basis, candidate.seq_length, candidate.sharding
    )


def _quickest(start: Settings) -> Candidate:
    """The leanest settings are tried first: where they do not fit, nothing does."""
    usual = optimizers(start)
    # Flash attention needs no mask: packed rows take no more memory, and no padding.
    start = start.with_packing(start.basis.flash and packs(start, True))
    leanest = replace(
        start, optimizer=usual[-1], checkpointing=checkpointings(start.method)[-1]
    ).with_rows(1)
    prediction = predicted(leanest)
    if prediction.high <= start.basis.free_bytes:
        for optimizer in usual:
            fitting = _fitting(replace(start, optimizer=optimizer))
            if fitting:
                best = min(fitting, key=lambda c: (effort_of(c), c.gradient_checkpointing))
                return _with_less_padding_if_quicker(best)
    return priced(leanest, prediction)


def _with_less_padding_if_quicker(found: Candidate) -> Candidate:
    """Fewer rows have less padding, and fill a device less. Under a mask, packed rows save all of
    theirs and pay for attention over one another, the more the more of them there are."""
    settings = settings_of(found)
    most = 1 - 1 / padded(settings.micro_batch, settings.basis.padding)
    if found.packed or most <= WORTH_IT:
        return found
    enough = effort_of(found) * (1 - WORTH_IT)
    ways = [settings.with_rows(rows) for rows in halves(settings.micro_batch // 2)]
    if True in packings(settings):
        packed = settings.with_packing(True)
        ways += [packed.with_rows(rows) for rows in halves(settings.micro_batch) if rows > 1]
    for seconds, each in sorted(((effort(way), way) for way in ways), key=lambda pair: pair[0]):
        if seconds > enough:
            break
        prediction = predicted(each)
        if prediction.high <= each.basis.free_bytes:
            return priced(each, prediction)
    return found


def halves(most: int) -> Iterator[int]:
    """From so many rows down to one."""
    while most >= 1:
        yield most
        most //= 2


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


def whole_length(basis: Basis, card: ModelCard, wanted: int | None) -> int:
    """The length asked for, as far as the model's positions reach; else the usual one."""
    if wanted is None:
        return default_length(basis, card)
    return min(wanted, card.shape.context or wanted)


def default_length(basis: Basis, card: ModelCard) -> int:
    """Long enough for every row up to 2,048 tokens; beyond that for 95 rows in 100, and no longer
    than what cuts as few. Texts are split instead."""
    wanted = basis.max_tokens
    if wanted > USUAL_LENGTH:
        wanted = USUAL_LENGTH
        if basis.objective != "pretrain":
            wanted = _no_longer_than_helps(basis, max(USUAL_LENGTH, basis.p95))
    wanted = -(-max(wanted, LENGTH_STEP) // LENGTH_STEP) * LENGTH_STEP
    return min(wanted, card.shape.context or wanted)


def _no_longer_than_helps(basis: Basis, length: int) -> int:
    """The shortest length that leaves as many rows whole: a single one that is cut anyway does not
    make the others' memory."""
    cut = dict(basis.cut_at)
    as_few = (at for at in cut if at < length and cut[at] == cut.get(length))
    return min(as_few, default=length)


def _largest_fitting(settings: Settings) -> tuple[Settings, Prediction] | None:
    """With the most rows a micro-batch can hold, found by halving the range of sizes."""
    sizes = list(halves(_most_rows(settings)))
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
    while on_cpu and micro > 1 and micro * longest(settings) > TOKENS_ON_CPU:
        micro //= 2
    return micro
