"""Candidates: a model × method × settings each, priced in memory, time and money."""

from __future__ import annotations

from dataclasses import dataclass, field

from core.memory.measured import NOTHING_SEEN, Correction
from core.memory.prediction import Prediction
from core.memory.setup import Sharding
from core.methods import Bits, MethodName
from core.models.catalogue import ModelCard
from core.objectives import ObjectiveName
from core.planning.calibration import ASSUMED, UNMEASURED, Calibration, Pace
from core.planning.work import learning_sequences
from core.recipe import Schedule, Switch

FEW = 0.05
"""The share of rows that are longer than the 95th percentile."""
LEAST_TOLD = 0.001


@dataclass(frozen=True, slots=True)
class Hyper:
    """The hyper-parameters that follow from the data and the method. `bits` of the base's weights:
    None is the method's usual. The last three count for last-layers, soft prompts and LoRA+."""

    learning_rate: float
    rank: int
    alpha: float
    dropout: float
    epochs: float
    warmup: float
    effective_batch: int
    targets: str | tuple[str, ...] = "all-linear"
    schedule: Schedule = "cosine"
    bits: Bits | None = None
    layers: int = 2
    virtual_tokens: int = 20
    lr_ratio: float = 16.0
    packing: Switch = "auto"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a plan rests on: the data's size, the free memory, the speed and the price.

    `rows` are those that are trained on, each of as many sequences as the objective takes; the
    tokens are those of one sequence. `flops` is the peak rate of the device per second; None where
    it is not known. `device` names it, and `calibration` is what was measured on it. `cut_at` says
    for usual lengths how many of the rows are longer. `gpus` is how many train together,
    `padding` the share of a batch that is padding (None: not counted), `flash` whether flash
    attention is there, which needs no mask to keep packed rows apart. `memory` is how measured
    steps on the device correct the predictions. `elsewhere`: on a machine that has no model yet.
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
    objective: ObjectiveName = "sft"
    gpus: int = 1
    padding: float | None = None
    flash: bool = False
    memory: Correction = field(default=NOTHING_SEEN, compare=False)
    elsewhere: bool = False

    def share_cut(self, length: int) -> float | None:
        """The share of the rows that would lose their end; at most this, where it was not counted
        for this length but for a shorter one. None where nothing is known of it."""
        if length >= self.max_tokens or self.objective == "pretrain":
            return 0.0
        counted = dict(self.cut_at)
        most = [rows / self.rows for at, rows in counted.items() if at <= length and self.rows]
        most += [FEW] if counted and length >= self.p95 and length not in counted else []
        return min(most, default=None)

    def cut_text(self, length: int) -> str:
        """The same in words; empty where no row is cut, or nothing is known of it."""
        share = self.share_cut(length)
        if not share:
            return ""
        much = f"{share:.1%}" if share >= LEAST_TOLD else f"under {LEAST_TOLD:.1%}"
        return f"{much if length in dict(self.cut_at) else f'up to {share:.1%}'} of the rows"

    def learned_tokens(self, length: int) -> float:
        """Tokens of a row that are learned from; texts are split where others are cut."""
        if self.objective == "pretrain":
            return self.tokens_per_row
        return learning_sequences(self.objective) * min(self.tokens_per_row, length)

    def training_rows(self, length: int) -> float:
        """How many rows there are for training, pieces of long texts counted apart."""
        pieces = self.tokens_per_row / length if self.objective == "pretrain" else 1.0
        return self.rows * max(1.0, pieces)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the Plan table. `why` is the sentence that recommends or explains it. `packed`:
    whether rows stand end to end in a micro-batch, as `hyper.packing` turns out here.

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
    packed: bool = False
    sharding: Sharding = "auto"

    @property
    def steps(self) -> int:
        """Optimiser steps in the whole run."""
        rows = self.basis.training_rows(self.seq_length)
        per_epoch = -(-rows // (self.micro_batch * self.gradient_accumulation))
        return max(1, round(per_epoch * self.hyper.epochs))

    @property
    def seconds_low(self) -> float | None:
        return None if self.seconds is None else self.seconds * self.pace.low

    @property
    def seconds_high(self) -> float | None:
        return None if self.seconds is None else self.seconds * self.pace.high

    @property
    def dollars_low(self) -> float | None:
        """At the price that is known: only the time is uncertain."""
        return None if self.dollars is None else self.dollars * self.pace.low

    @property
    def dollars_high(self) -> float | None:
        return None if self.dollars is None else self.dollars * self.pace.high

    @property
    def trained_tokens(self) -> float:
        """Tokens that are learned from in the whole run, all epochs together."""
        return self.basis.rows * self.basis.learned_tokens(self.seq_length) * self.hyper.epochs


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
