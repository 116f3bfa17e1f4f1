"""How long a run takes: tokens × FLOPs a token ÷ (the device's peak × a utilisation).

The utilisation is assumed here; `core.planning.calibration` corrects it by what was measured.
"""

from __future__ import annotations

from core.models.catalogue import ModelShape

GPU_UTILISATION = 0.35  # of the dense peak, for large models and full batches
CPU_FLOPS_PER_CORE = 100e9  # bf16 on a server core: SmolLM2-135M, LoRA, 377 tokens/s on two
UNKNOWN_GPU_FLOPS = 100e12  # only ever used together with what was measured on that GPU
SATURATING_TOKENS = 1024  # tokens in a micro-batch at which half the rest of the speed is there
SATURATING_WIDTH = 768
DEQUANTISING = 1.25  # QLoRA unpacks every weight on the way
START_SECONDS_GPU, START_SECONDS_CPU = 60.0, 25.0  # imports, loading, encoding
LOADING_BYTES_PER_SECOND = 1.5e9


def flops_per_token(
    shape: ModelShape, method: str, seq_length: int, *, gradient_checkpointing: bool
) -> float:
    """Forward and backward for one token; frozen weights need no gradient of their own."""
    forward = 2.0 * _active_parameters(shape) + _attention_flops(shape, seq_length)
    passes = 3.0 if method == "full" else 2.0
    return forward * (passes + (1.0 if gradient_checkpointing else 0.0))


def _active_parameters(shape: ModelShape) -> float:
    """The weights that one token meets: of the experts only the chosen ones, of the embedding
    only the head."""
    head = shape.vocabulary * shape.hidden
    experts = 3 * shape.hidden * (shape.expert_width or 0) * (shape.active_experts or 0)
    return shape.in_linear + shape.layers * experts + head


def _attention_flops(shape: ModelShape, seq_length: int) -> float:
    """Scores and their product with the values; causal, so half the square."""
    return 2.0 * shape.layers * seq_length * shape.heads * shape.head_dim


def seconds_per_token(
    shape: ModelShape,
    method: str,
    *,
    tokens_per_row: float,
    micro_batch: int,
    gradient_checkpointing: bool,
    flops: float,
    on_gpu: bool,
) -> float:
    """Seconds of training for one token of the rows, padding to the longest row included."""
    work = padding(micro_batch) * flops_per_token(
        shape, method, int(tokens_per_row), gradient_checkpointing=gradient_checkpointing
    )
    if method == "qlora":
        work *= DEQUANTISING
    if not on_gpu:
        return work / flops
    batch = micro_batch * tokens_per_row
    full = batch / (batch + SATURATING_TOKENS) * shape.hidden / (shape.hidden + SATURATING_WIDTH)
    return work / (flops * GPU_UTILISATION * full)


def start_seconds(shape: ModelShape, *, on_gpu: bool) -> float:
    """What passes before the first step: imports, encoding, and the weights from the disk."""
    if not on_gpu:
        return START_SECONDS_CPU
    return START_SECONDS_GPU + 2 * shape.parameters / LOADING_BYTES_PER_SECOND


def padding(micro_batch: int) -> float:
    """Rows of a micro-batch are padded to its longest."""
    return 1.0 + 0.15 * min(1.0, (micro_batch - 1) / 3)
