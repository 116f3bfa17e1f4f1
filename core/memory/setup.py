"""What decides how much memory a training takes: one model, one method, one batch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from core.models.catalogue import ModelShape


@dataclass(frozen=True, slots=True)
class Setup:
    """All that the predictions depend on. `targets` as in a recipe's `target_modules`.

    `accumulates`: gradients outlive a micro-batch. `expandable`: segments that grow, as the
    trainer asks of torch's allocator.
    """

    shape: ModelShape
    method: str
    rank: int = 16
    targets: str | tuple[str, ...] = "all-linear"
    micro_batch: int = 1
    seq_length: int = 1024
    gradient_checkpointing: bool = True
    optimizer: str = "adamw"
    accumulates: bool = False
    dropout: float = 0.0
    expandable: bool = True


def to_json(setup: Setup) -> str:
    """The setup as one line, keys in order."""
    return json.dumps(asdict(setup), sort_keys=True)


def from_json(text: str) -> Setup:
    """The setup that `to_json` wrote."""
    fields = json.loads(text)
    shape = ModelShape(**fields.pop("shape"))
    targets = fields.pop("targets")
    return Setup(shape, targets=targets if isinstance(targets, str) else tuple(targets), **fields)
