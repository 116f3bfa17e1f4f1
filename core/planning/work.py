"""How much there is to compute: floating-point operations for a token, by method and objective.

A weight costs two operations a token forward, two more to pass the gradient through it, and two
more to learn it: 6 N for all of them (Kaplan et al. 2020, arXiv 2001.08361), 4 N where the weights
are frozen. Attention costs another 2 T for every head's width forward, twice that backward.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.methods import METHODS, Bits, MethodName
from core.models.catalogue import ModelShape
from core.models.families import targeted
from core.objectives import ObjectiveName

OFT_BLOCK = 32  # width of the rotated blocks, as the trainer sets it
UNPACKING: dict[Bits, float] = {4: 1.25, 8: 1.5, 16: 1.0}
"""Times as long, for weights that are unpacked on the way."""
OVERHEAD = {"dora": 1.2, "oft": 1.2, "adalora": 1.1}
"""Times as long, for what is not multiplied but read and written: norms, rotations, masks."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is trained, as far as its time depends on it. `bits`: None is the method's usual."""

    method: MethodName
    objective: ObjectiveName = "sft"
    bits: Bits | None = None
    rank: int = 16
    targets: str | tuple[str, ...] = "all-linear"
    layers: int = 2
    virtual_tokens: int = 20

    @property
    def slower(self) -> float:
        """How many times as long it takes as its operations would."""
        bits = self.bits or METHODS[self.method].bits[0]
        return UNPACKING[bits] * OVERHEAD.get(self.method, 1.0)

    def longer(self, length: float) -> float:
        """How many times as long a row of so many tokens is, with the vectors before it."""
        if self.method not in ("prompt", "p-tuning"):
            return 1.0
        return 1 + self.virtual_tokens / max(1.0, length)


def training_flops(
    shape: ModelShape, work: Work, length: float, batch: float, *, gradient_checkpointing: bool
) -> float:
    """Forward and backward for one token of a sequence of `length`, in a batch of `batch`."""
    longer = work.longer(length)
    length *= longer
    linear, head = 2.0 * _decoder_weights(shape), 2.0 * shape.vocabulary * shape.hidden
    attention = _attention(shape, length + _prefix(work))
    reach = min(1.0, work.layers / shape.layers) if work.method == "last-layers" else 1.0
    backward = head + reach * (linear + 2 * attention)
    own = {"full": linear + head, "last-layers": reach * linear}.get(work.method, 0.0)
    again = reach * (linear + attention) if gradient_checkpointing else 0.0
    beside = _adapter(shape, work, batch) * (4 if gradient_checkpointing else 3)
    return longer * (linear + head + attention + backward + own + again) + beside


def forward_flops(shape: ModelShape, length: float) -> float:
    """One token through the model, nothing learned."""
    head = 2.0 * shape.vocabulary * shape.hidden
    return 2.0 * _decoder_weights(shape) + head + _attention(shape, length)


def forwards_beside(objective: ObjectiveName, epochs: float) -> float:
    """Passes for each sequence of the data beside those that learn: the model before training
    judges every sequence once (DPO, KTO), and KTO compares with an answer that does not belong."""
    if objective == "dpo":
        return 1.0
    return epochs + 2.0 if objective == "kto" else 0.0


def learning_sequences(objective: ObjectiveName) -> int:
    """Sequences of a row that are learned from: both answers of a pair."""
    return 2 if objective in ("dpo", "orpo") else 1


def _decoder_weights(shape: ModelShape) -> float:
    """The weights that one token meets below the head: of the experts only the chosen ones."""
    experts = 3 * shape.hidden * (shape.expert_width or 0) * (shape.active_experts or 0)
    return shape.in_linear + shape.layers * experts


def _attention(shape: ModelShape, length: float) -> float:
    """Scores and their product with the values; causal, so half the square."""
    return 2.0 * shape.layers * length * shape.heads * shape.head_dim


def _prefix(work: Work) -> float:
    """Keys and values that every token sees: twice the half of causal attention."""
    return 2.0 * work.virtual_tokens if work.method == "prefix" else 0.0


def _adapter(shape: ModelShape, work: Work, batch: float) -> float:
    """The adapter's own share of a token's forward pass. What is done once a batch is spread
    over its tokens: DoRA's norms, the full-sized updates that LoHa and LoKr build."""
    method = METHODS[work.method]
    if method.kind != "adapter" or work.method == "ia3":
        return 0.0
    adapted = targeted(shape, work.targets)
    narrow = float(sum(linear.inputs + linear.outputs for linear in adapted))
    full = float(sum(linear.weights for linear in adapted))
    built = 2.0 * full * work.rank / max(1.0, batch)
    if work.method in ("loha", "lokr"):
        layer = 2.0 * full + (2 * built if work.method == "loha" else built)
    elif work.method == "oft":
        layer = 2.0 * OFT_BLOCK * sum(linear.inputs for linear in adapted)
    else:
        rank = 1.5 * work.rank if work.method == "adalora" else work.rank
        layer = 2.0 * rank * narrow + (built if work.method == "dora" else 0.0)
    return shape.layers * layer
