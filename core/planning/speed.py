"""How long a run takes: tokens × FLOPs a token ÷ (the device's peak × a utilisation).

The utilisation is assumed here; `core.planning.calibration` corrects it by what was measured.
"""

from __future__ import annotations

from core.models.catalogue import ModelShape
from core.planning.work import Work, forward_flops, learning_sequences, training_flops

GPU_UTILISATION = 0.35  # of the dense peak, for large models and full batches
CPU_FLOPS_PER_CORE = 110e9  # bf16 on a server core: SmolLM2-135M, LoRA, 377 tokens/s on two
FILLING_TOKENS_CPU = 32  # tokens in a micro-batch at which half of that is reached
UNKNOWN_GPU_FLOPS = 100e12  # only ever used together with what was measured on that GPU
SATURATING_TOKENS = 1024  # tokens in a micro-batch at which half the rest of the speed is there
SATURATING_WIDTH = 768
PADDING = 0.15  # tokens of padding for each token, in a batch of four rows or more
START_SECONDS_GPU, START_SECONDS_CPU = 60.0, 25.0  # imports, loading, encoding
LOADING_BYTES_PER_SECOND = 1.5e9
DOWNLOAD_BYTES_PER_SECOND = 200e6  # own choice: from the hub to a rented machine


def seconds_per_token(
    shape: ModelShape,
    work: Work,
    *,
    tokens_per_row: float,
    micro_batch: int,
    gradient_checkpointing: bool,
    flops: float,
    on_gpu: bool,
    padding: float | None = None,
    reach: float | None = None,
) -> float:
    """Seconds of training for one token of the rows, padding to the longest row included:
    `padding` is its share of a full batch, where that was counted. `reach`: the tokens of a causal
    row whose attention costs as much, where that is not the row.

    `tokens_per_row` are those of one sequence, `micro_batch` counts rows of as many sequences as
    the objective learns from.
    """
    batch = micro_batch * learning_sequences(work.objective) * tokens_per_row
    filling = batch * work.longer(tokens_per_row)
    operations = padded(micro_batch, padding) * training_flops(
        shape, work, reach or tokens_per_row, batch, gradient_checkpointing=gradient_checkpointing
    )
    return work.slower * operations / (flops * _utilisation(shape, filling, on_gpu=on_gpu))


def seconds_per_judged_token(
    shape: ModelShape, work: Work, *, tokens_per_row: float, flops: float, on_gpu: bool
) -> float:
    """Seconds for one token that passes through the model without being learned from."""
    busy = _utilisation(shape, SATURATING_TOKENS, on_gpu=on_gpu)
    return work.slower * forward_flops(shape, tokens_per_row) / (flops * busy)


def _utilisation(shape: ModelShape, batch: float, *, on_gpu: bool) -> float:
    """The share of the peak that is reached: small models and batches do not fill a GPU, nor do the
    few tokens that each of many experts is given, and a row alone does not fill a CPU."""
    if not on_gpu:
        return batch / (batch + FILLING_TOKENS_CPU)
    if shape.experts:  # each sees its share of the tokens
        batch *= (shape.active_experts or 1) / shape.experts
    filled = batch / (batch + SATURATING_TOKENS)
    return GPU_UTILISATION * filled * shape.hidden / (shape.hidden + SATURATING_WIDTH)


def start_seconds(shape: ModelShape, *, on_gpu: bool, there: bool) -> float:
    """What passes before the first step: imports, encoding, and the weights from the disk, which
    come from the hub first where they are not `there`."""
    weights = 2 * shape.parameters
    fetching = 0.0 if there else weights / DOWNLOAD_BYTES_PER_SECOND
    if not on_gpu:
        return START_SECONDS_CPU + fetching
    return START_SECONDS_GPU + weights / LOADING_BYTES_PER_SECOND + fetching


def padded(micro_batch: int, share: float | None) -> float:
    """How many times the tokens of the rows a micro-batch holds, padded to its longest."""
    waste = PADDING if share is None else share / (1 - min(share, 0.9))
    return 1.0 + waste * min(1.0, (micro_batch - 1) / 3)
