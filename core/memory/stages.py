"""The stages of a run beside the training step: measuring held-out rows, and merging."""

from __future__ import annotations

from dataclasses import dataclass

from core.memory.formula import held_of, predict_setup, profile_of, weight_bytes
from core.memory.prediction import CUBLAS_WORKSPACES, CUDA_CONTEXT, Prediction
from core.memory.setup import MOST_MEASURED_LOGITS, Setup
from core.methods import METHODS
from core.models.families import linears

EVALUATION_POSITIONS = 2048  # tokens in one forward pass, or one row, as the trainer takes them
LOGIT_BYTES = 10  # in 16 bits, in float32, and their logarithmic softmax
CHECKED_TOKENS = 4 * 256  # on which adapter and merged model must agree
MERGED_COPIES = 10  # bytes a weight: its update in float32, the sum, and the weight that was


@dataclass(frozen=True, slots=True)
class Stages:
    """What the process has at its peak in each stage of a run, in bytes, as NVML shows it.

    `evaluate` counts every held-out token as trained on; where prompts are long it is less.
    `merge` is what merging takes of the GPU, or else of RAM; 0 where nothing is merged.
    """

    train: int
    evaluate: int
    merge: int

    @property
    def worst(self) -> int:
        return max(self.train, self.evaluate, self.merge)


def stages(setup: Setup, trained: Prediction | None = None) -> Stages:
    """All stages. `trained`: a prediction of the step that is known already."""
    step = trained or predict_setup(setup)
    return Stages(step.peak, _evaluation(setup, step), _merge(setup))


def _evaluation(setup: Setup, step: Prediction) -> int:
    """Weights and states are there; a few long rows pass through, and all of their logits. Where
    a model is split, its head and the last layer have just been gathered."""
    profile = profile_of(setup)
    held = held_of(setup, profile)
    tokens = max(setup.seq_length, min(EVALUATION_POSITIONS, setup.micro_batch * setup.seq_length))
    forward = profile.layer.forward_peak(tokens, setup.seq_length)
    logits = LOGIT_BYTES * min(tokens * setup.shape.vocabulary, MOST_MEASURED_LOGITS)
    there = held.weights + held.adapter + held.states + held.buffers + step.paged
    gathered = 2 * held.table + held.layer
    beside = step.parts.runtime + CUBLAS_WORKSPACES
    return int(there + gathered + beside + max(logits, forward))


def _merge(setup: Setup) -> int:
    """The base in 16 bits, the adapter, one weight with its update, the logits that prove it."""
    method = METHODS[setup.method]
    if not (method.has_adapter and method.merges):
        return 0
    largest = max(linear.weights for linear in linears(setup.shape))
    logits = 6 * CHECKED_TOKENS * setup.shape.vocabulary
    held = weight_bytes(setup.shape, 16) + profile_of(setup).adapter
    return int(held + max(MERGED_COPIES * largest, logits)) + CUDA_CONTEXT
