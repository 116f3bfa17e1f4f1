"""A candidate with some of its knobs turned."""

from __future__ import annotations

from dataclasses import replace

from core.memory.setup import Sharding
from core.methods import METHODS, Bits, MethodName
from core.planning.candidates import Basis, Candidate, Hyper
from core.planning.defaults import defaults
from core.planning.search import checkpointings
from core.planning.settings import Settings, priced, settings_of, sharding_refusal
from core.recipe import Switch


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
    sharding: Sharding | None = None,
    basis: Basis | None = None,
) -> Candidate:
    """The candidate with some knobs turned, priced anew. A turned rank takes alpha along, a turned
    micro-batch the accumulation, so that the effective batch stays; another method or objective
    brings the hyper-parameters that are usual for it."""
    before = settings_of(candidate)
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
        sharding=sharding or before.sharding,
    )
    if gradient_accumulation is not None:
        micro = micro_batch or after.micro_batch
        hyper = replace(hyper, effective_batch=micro * gradient_accumulation)
    after = _possible(replace(after, hyper=hyper))
    turned = micro_batch is not None or gradient_accumulation is not None
    return priced(after.with_rows(micro_batch or after.micro_batch) if turned else after)


def _possible(after: Settings) -> Settings:
    """Without what another method, or other bits, do not go with."""
    if True not in checkpointings(after.method):
        after = replace(after, checkpointing=False)
    if sharding_refusal(after, after.sharding):
        after = replace(after, sharding="auto")
    if after.in_parts and "8bit" in after.optimizer:
        after = replace(after, optimizer="adamw")
    return after


def _hyper_for(before: Settings, method: MethodName, basis: Basis) -> Hyper:
    """As they were, but for what follows from another method or objective."""
    hyper = before.hyper
    if method == before.method and basis.objective == before.basis.objective:
        return hyper
    parameters = before.card.shape.parameters
    usual = defaults(basis.rows, parameters, method, basis.objective, basis.gpus)
    bits = hyper.bits if hyper.bits in METHODS[method].bits else None
    return replace(
        usual,
        targets=hyper.targets,
        effective_batch=hyper.effective_batch,
        bits=bits,
        packing=hyper.packing if basis.objective == before.basis.objective else "auto",
    )
