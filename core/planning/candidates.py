"""Candidates: a model × method × settings each, priced in memory, time and money."""

from __future__ import annotations

from dataclasses import dataclass

from core.memory.prediction import Prediction
from core.methods import MethodName
from core.models.catalogue import ModelCard
from core.planning.calibration import ASSUMED, UNMEASURED, Calibration, Pace


@dataclass(frozen=True, slots=True)
class Hyper:
    """The hyper-parameters that follow from the data and the method."""

    learning_rate: float
    rank: int
    alpha: float
    dropout: float
    epochs: float
    warmup: float
    effective_batch: int
    targets: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan rests on: the data's size, the free memory, the speed and the price.

    `flops` is the peak rate of the device per second; None where it is not known. `device` names
    it, and `calibration` is what was measured on it. `cut_at` says for usual lengths how many of
    the rows are longer.
    """

    rows: int
    tokens_per_row: float
    p95: int
    max_tokens: int
    free_bytes: int
    on_gpu: bool
    flops: float | None = None
    dollars_per_hour: float | None = None
    gpu: str = "auto"
    device: str = ""
    calibration: Calibration = UNMEASURED
    cut_at: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the Plan table. `why` is the sentence that recommends or explains it.

    `seconds` is the middle of `seconds_low` to `seconds_high`, which `pace` says: wide where the
    utilisation is assumed, narrow where it was measured.
    """

    model: ModelCard
    method: MethodName
    micro_batch: int
    gradient_accumulation: int
    seq_length: int
    gradient_checkpointing: bool
    optimizer: str
    prediction: Prediction
    fits: bool
    seconds: float | None
    dollars: float | None
    why: str
    hyper: Hyper
    basis: Basis
    score: float = 0.0
    pace: Pace = ASSUMED

    @property
    def steps(self) -> int:
        """Optimiser steps in the whole run."""
        per_epoch = -(-self.basis.rows // (self.micro_batch * self.gradient_accumulation))
        return max(1, round(per_epoch * self.hyper.epochs))

    @property
    def seconds_low(self) -> float | None:
        return None if self.seconds is None else self.seconds * self.pace.low

    @property
    def seconds_high(self) -> float | None:
        return None if self.seconds is None else self.seconds * self.pace.high

    @property
    def trained_tokens(self) -> float:
        """Tokens that pass through the model in the whole run, all epochs together."""
        per_row = min(self.basis.tokens_per_row, self.seq_length)
        return self.basis.rows * per_row * self.hyper.epochs


@dataclass(frozen=True, slots=True)
class Lever:
    """Something to change so that a candidate fits: what it saves (bytes) and what it costs."""

    text: str
    saves: int
    costs: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The table, the row with the star (None when nothing fits), and the levers.

    `note` is what the reader must know before the table: no GPU, so it will take long.
    """

    device: str
    free_bytes: int
    on_gpu: bool
    candidates: tuple[Candidate, ...]
    recommended: int | None
    levers: tuple[Lever, ...]
    note: str = ""
    basis: Basis | None = None
