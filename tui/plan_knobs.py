"""The knobs of a candidate: what each key turns, and how far."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from core.memory.setup import Sharding
from core.methods import METHODS
from core.planning.candidates import Candidate
from core.planning.retuning import retune
from core.planning.search import checkpointings
from core.planning.settings import SHARDINGS, packing_refusal, settings_of, sharding_refusal

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
POWERS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
RANKS = (4, 8, 16, 32, 64, 128, 256, 512)
LAYERS = (1, 2, 4, 8, 16, 32, 64)
VIRTUAL_TOKENS = (4, 8, 20, 50, 100, 200)
EPOCHS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0)
RATES = (
    1e-7, 2e-7, 5e-7, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5,
    1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2,
)  # fmt: skip
OPTIMIZERS = ("adamw", "adamw-8bit", "paged-adamw-8bit", "sgd")
TARGETS = ("all-linear", "attention-all", "attention")
ENDS = {
    "length": "The length",
    "batch": "The micro-batch",
    "accumulation": "The number of rows a step",
    "rank": "What is trained",
    "epochs": "The number of epochs",
    "rate": "The learning rate",
}
"""What the knobs with ends turn; the others go round and round."""
T = TypeVar("T", int, float)


def turned(candidate: Candidate, knob: str, step: int) -> Candidate:
    """The candidate with one knob turned a step up or down, priced anew."""
    return _KNOBS[knob](candidate, step)


def why_not(candidate: Candidate, knob: str) -> str | None:
    """Why this candidate has no such knob; None where it has."""
    method = METHODS[candidate.method]
    if knob == "rank" and not method.knobs & {"rank", "layers", "virtual_tokens"}:
        return f"{method.title} has no rank."
    if knob == "targets" and "target_modules" not in method.knobs:
        return f"{method.title} has its own places in the model."
    if knob == "checkpointing" and len(checkpointings(candidate.method)) == 1:
        return f"{method.title} does not go with gradient checkpointing."
    if knob == "packing" and (reason := packing_refusal(settings_of(candidate))):
        return f"{reason[:1].upper()}{reason[1:]}."
    if knob == "sharding" and candidate.basis.gpus == 1:
        return "Sharding is for several GPUs: w chooses how many."
    if knob == "bits" and len(method.bits) == 1:
        return f"{method.title} trains on a base of {method.bits[0]} bits only."
    return None


def at_its_end(candidate: Candidate, after: Candidate, knob: str, step: int) -> str | None:
    """Why the knob turned no further; None where it did."""
    if knob not in ENDS or settings_of(after) != settings_of(candidate):
        return None
    model = candidate.model
    if knob == "length" and step > 0 and candidate.seq_length == model.shape.context:
        return f"{model.id} was made for {candidate.seq_length:,} tokens at most."
    return f"{ENDS[knob]} goes no {'higher' if step > 0 else 'lower'} here."


def passed_over(candidate: Candidate, knob: str) -> str | None:
    """Why the next setting of the knob cannot be, so that it turns to the one after that."""
    if knob != "sharding":
        return None
    at = SHARDINGS.index(_shared_how(candidate))
    return sharding_refusal(settings_of(candidate), SHARDINGS[(at + 1) % len(SHARDINGS)])


def _shared_how(candidate: Candidate) -> Sharding:
    """`auto` is a copy on each GPU, as long as one fits."""
    return "ddp" if candidate.sharding == "auto" else candidate.sharding


def _size(candidate: Candidate, step: int) -> Candidate:
    """The rank; of methods without one, the layers that learn or the vectors before the row."""
    knobs, hyper = METHODS[candidate.method].knobs, candidate.hyper
    if "layers" in knobs:
        return retune(candidate, layers=_rung(LAYERS, hyper.layers, step))
    if "virtual_tokens" in knobs:
        return retune(candidate, virtual_tokens=_rung(VIRTUAL_TOKENS, hyper.virtual_tokens, step))
    return retune(candidate, rank=_rung(RANKS, hyper.rank, step))


def _accumulation(candidate: Candidate, step: int) -> Candidate:
    return retune(
        candidate, gradient_accumulation=_rung(POWERS, candidate.gradient_accumulation, step)
    )


def _bits(candidate: Candidate, step: int) -> Candidate:
    """Round and round those that the method trains on."""
    there = METHODS[candidate.method].bits
    at = there.index(candidate.hyper.bits or there[0])
    return retune(candidate, bits=there[(at + step) % len(there)])


def _targets(candidate: Candidate, step: int) -> Candidate:
    """Round and round; names that a person has written give way to all."""
    now = candidate.hyper.targets
    at = TARGETS.index(now) if isinstance(now, str) and now in TARGETS else -1
    return retune(candidate, targets=TARGETS[(at + step) % len(TARGETS)])


def _optimizer(candidate: Candidate, step: int) -> Candidate:
    """Round and round: one key is enough for four. States in 8 bits are not split."""
    whole = candidate.sharding not in ("fsdp", "zero3")
    there = [name for name in OPTIMIZERS if whole or "8bit" not in name]
    at = there.index(candidate.optimizer) if candidate.optimizer in there else -1
    return retune(candidate, optimizer=there[(at + step) % len(there)])


def _packing(candidate: Candidate, step: int) -> Candidate:
    """On and off; what a recipe leaves to the trainer first becomes the other of what that does."""
    return retune(candidate, packing=not candidate.packed)


def _sharding(candidate: Candidate, step: int) -> Candidate:
    """Round and round what the method and its bits go with."""
    settings = settings_of(candidate)
    there = [how for how in SHARDINGS if not sharding_refusal(settings, how)]
    at = there.index(_shared_how(candidate))
    return retune(candidate, sharding=there[(at + step) % len(there)])


def _checkpointing(candidate: Candidate, step: int) -> Candidate:
    return retune(candidate, gradient_checkpointing=not candidate.gradient_checkpointing)


def _length(candidate: Candidate, step: int) -> Candidate:
    """Up to what the model was made for, which may lie between two rungs."""
    most = candidate.model.shape.context or LENGTHS[-1]
    ladder = (*(rung for rung in LENGTHS if rung < most), most)
    return retune(candidate, seq_length=_rung(ladder, candidate.seq_length, step))


_KNOBS: dict[str, Callable[[Candidate, int], Candidate]] = {
    "length": _length,
    "batch": lambda c, step: retune(c, micro_batch=_rung(POWERS, c.micro_batch, step)),
    "accumulation": _accumulation,
    "rank": _size,
    "epochs": lambda c, step: retune(c, epochs=_rung(EPOCHS, c.hyper.epochs, step)),
    "rate": lambda c, step: retune(c, learning_rate=_rung(RATES, c.hyper.learning_rate, step)),
    "optimizer": _optimizer,
    "checkpointing": _checkpointing,
    "bits": _bits,
    "packing": _packing,
    "sharding": _sharding,
    "targets": _targets,
}


def _rung(ladder: tuple[T, ...], value: T, step: int) -> T:
    """The next rung of the ladder above or below the value; beyond its ends the value stays."""
    if step > 0:
        return next((rung for rung in ladder if rung > value), value)
    return next((rung for rung in reversed(ladder) if rung < value), value)
