"""How long a run takes: tokens × FLOPs a token ÷ (the device's peak × a utilisation).

An estimate to choose by. The utilisation is assumed until a run on the machine shows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from core.models.catalogue import ModelShape
from core.paths import presets_root

GPU_UTILISATION = 0.35  # of the dense peak, for large models and full batches
CPU_FLOPS_PER_CORE = 100e9  # bf16 on a server core: SmolLM2-135M, LoRA, 377 tokens/s on two
SATURATING_TOKENS = 1024  # tokens in a micro-batch at which half the rest of the speed is there
SATURATING_WIDTH = 768
DEQUANTISING = 1.25  # QLoRA unpacks every weight on the way
START_SECONDS_GPU, START_SECONDS_CPU = 60.0, 25.0  # imports, loading, encoding
LOADING_BYTES_PER_SECOND = 1.5e9
MEMORY_TOLERANCE = 0.25


@dataclass(frozen=True, slots=True)
class GpuModel:
    """An entry of presets/gpus.yaml. `flops` per second, memory in bytes, dollars per hour."""

    name: str
    match: tuple[str, ...]
    memory: int
    flops: float
    bandwidth: float
    bf16: bool
    price: tuple[float, float] | None


@cache
def known_gpus() -> tuple[GpuModel, ...]:
    """The GPUs of the presets."""
    return tuple(_gpu(entry) for entry in _presets()["gpus"])


def prices_dated() -> str:
    """When the prices were looked at."""
    return str(_presets()["priced"])


@cache
def _presets() -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with (presets_root() / "gpus.yaml").open("rb") as file:
        tree: dict[str, Any] = yaml.load(file, Loader=loader)
    return tree


def _gpu(entry: dict[str, Any]) -> GpuModel:
    price = entry["price"]
    return GpuModel(
        name=entry["name"],
        match=tuple(str(entry["match"]).split()),
        memory=int(entry["memory"] * 1024**3),
        flops=entry["tflops"] * 1e12,
        bandwidth=entry["bandwidth"] * 1e9,
        bf16=entry["bf16"],
        price=(price[0], price[1]) if price else None,
    )


def gpu_named(name: str, memory: int | None = None) -> GpuModel | None:
    """The preset for a GPU by the name that its driver (or a person) gives it.

    The entry with most matching words wins. One whose memory is far from the card's (a laptop's
    chip, a slice) is another GPU.
    """
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    matching = [gpu for gpu in known_gpus() if words.issuperset(gpu.match)]
    if memory is not None:
        matching = [g for g in matching if abs(g.memory - memory) < MEMORY_TOLERANCE * g.memory]
    return max(matching, key=lambda gpu: len(gpu.match), default=None)


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


def run_seconds(
    shape: ModelShape,
    method: str,
    *,
    tokens: float,
    tokens_per_row: float,
    micro_batch: int,
    gradient_checkpointing: bool,
    flops: float | None,
    on_gpu: bool,
) -> float | None:
    """Seconds for `tokens` tokens and the start of the run; None for a GPU of unknown speed."""
    if flops is None:
        return None
    work = tokens * flops_per_token(
        shape, method, int(tokens_per_row), gradient_checkpointing=gradient_checkpointing
    )
    work *= padding(micro_batch)
    if method == "qlora":
        work *= DEQUANTISING
    if not on_gpu:
        return START_SECONDS_CPU + work / flops
    batch = micro_batch * tokens_per_row
    full = batch / (batch + SATURATING_TOKENS) * shape.hidden / (shape.hidden + SATURATING_WIDTH)
    start = START_SECONDS_GPU + 2 * shape.parameters / LOADING_BYTES_PER_SECOND
    return start + work / (flops * GPU_UTILISATION * full)


def padding(micro_batch: int) -> float:
    """Rows of a micro-batch are padded to its longest."""
    return 1.0 + 0.15 * min(1.0, (micro_batch - 1) / 3)
