"""What decides how much memory a training takes: one model, one method, one batch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from core.methods import METHODS, Bits, MethodName
from core.models.catalogue import ModelShape

Sharding = Literal["auto", "ddp", "fsdp", "zero3"]
Objective = Literal["sft", "pretrain", "dpo", "kto", "orpo"]
FUSED_FROM_LOGITS = 2**23
"""Above this many logits the trainer takes TRL's fused head on a GPU, which never holds all."""

MOST_MEASURED_LOGITS = 2**25
"""So many logits are in memory at a time while held-out rows are measured."""


@dataclass(frozen=True, slots=True)
class Setup:
    """All that the predictions depend on. `targets` as in a recipe's `target_modules`.

    `accumulates`: gradients outlive a micro-batch. `expandable`: segments that grow, as the
    trainer asks of torch's allocator. `bits` are those of the base's weights, None the method's
    usual; `layers` and `virtual_tokens` as in a recipe's `method`. `gpus` counts those of all
    machines; the prediction is for the fullest of them. `one_mask`: the rows of a micro-batch stand
    end to end, kept apart by a mask of all their tokens by all their tokens; the formula alone
    knows of it.
    """

    shape: ModelShape
    method: MethodName
    rank: int = 16
    targets: str | tuple[str, ...] = "all-linear"
    micro_batch: int = 1
    seq_length: int = 1024
    gradient_checkpointing: bool = True
    optimizer: str = "adamw"
    accumulates: bool = False
    dropout: float = 0.0
    expandable: bool = True
    bits: Bits | None = None
    layers: int = 2
    virtual_tokens: int = 20
    objective: Objective = "sft"
    gpus: int = 1
    sharding: Sharding = "auto"
    one_mask: bool = False

    @property
    def base_bits(self) -> Bits:
        """Bits of the base's weights while training; 16 stands for 16 or 32."""
        return self.bits or METHODS[self.method].bits[0]

    @property
    def checkpointed(self) -> bool:
        """Whether activations are computed twice."""
        return self.gradient_checkpointing and METHODS[self.method].allows_checkpointing

    @property
    def in_parts(self) -> bool:
        """Whether each GPU holds a part of the model; `auto` is a copy on each, as it is in a run
        whose copy fits."""
        return self.gpus > 1 and self.sharding in ("fsdp", "zero3")

    @property
    def has_pairs(self) -> bool:
        """Whether a row is two sequences in one forward pass: chosen and rejected."""
        return self.objective in ("dpo", "orpo")

    @property
    def keeps_gradients(self) -> bool:
        """Whether whole ones outlive a micro-batch; those of a model in parts are put in parts."""
        return self.accumulates and not self.in_parts

    @property
    def of_preferences(self) -> bool:
        """Whether the loss is one of log-probabilities, for which all logits are made."""
        return self.objective in ("dpo", "kto", "orpo")

    @property
    def rows(self) -> int:
        """Sequences in one forward pass."""
        return self.micro_batch * (2 if self.has_pairs else 1)


def to_json(setup: Setup) -> str:
    """The setup as one line, keys in order."""
    return json.dumps(asdict(setup), sort_keys=True)


def from_json(text: str) -> Setup:
    """The setup that `to_json` wrote."""
    fields = json.loads(text)
    shape = ModelShape(**fields.pop("shape"))
    targets = fields.pop("targets")
    return Setup(shape, targets=targets if isinstance(targets, str) else tuple(targets), **fields)
