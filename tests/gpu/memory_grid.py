"""Predicted against measured memory, on the GPU at hand: `python -m tests.gpu.memory_grid out.csv`.

Each configuration runs in a process of its own: random weights of the right shape, the trainer's
own adapter and loss, two steps of forward, backward and update. The table holds the prediction,
torch's peaks and what NVML shows for the process. Without a GPU, `--dry-run` runs tiny models on
the CPU and leaves the measured columns empty.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core.memory.formula import Method, predict
from core.models.as_config import config_arguments
from core.models.catalogue import ModelShape, card_for

MODELS = (
    "HuggingFaceTB/SmolLM2-135M",
    "Qwen/Qwen2.5-0.5B",
    "meta-llama/Llama-3.2-1B",
    "Qwen/Qwen3-4B",
    "microsoft/Phi-3.5-mini-instruct",
    "google/gemma-3-4b-it",
    "meta-llama/Llama-3.1-8B",
    "Qwen/Qwen3-14B",
)
LARGE = "meta-llama/Llama-3.1-70B"
FULL_BELOW = 5e9
MEASURED = ("allocated", "reserved", "nvml")


@dataclass(frozen=True)
class Point:
    """One configuration of the grid."""

    model: str
    method: Method
    seq_length: int
    checkpointing: bool
    optimizer: str = "adamw"
    micro_batch: int = 1


def grid() -> list[Point]:
    """At least forty: methods × lengths × checkpointing, both optimisers for full."""
    points = []
    for model, length, checkpointing in itertools.product(MODELS, (512, 2048), (True, False)):
        points += [Point(model, method, length, checkpointing) for method in ("lora", "qlora")]
        if card_for(model).shape.parameters < FULL_BELOW and checkpointing:
            for optimizer in ("adamw", "adamw-8bit"):
                points.append(Point(model, "full", length, checkpointing, optimizer))
    return [*points, Point(LARGE, "qlora", 1024, checkpointing=True)]


def predicted(point: Point) -> dict[str, int]:
    """The formula's numbers for the columns of the table."""
    prediction = predict(
        card_for(point.model).shape,
        point.method,
        16,
        "all-linear",
        point.micro_batch,
        point.seq_length,
        point.checkpointing,
        point.optimizer,
    )
    return {
        "predicted_allocated": prediction.allocated,
        "predicted_reserved": prediction.reserved,
        "predicted_nvml": prediction.peak,
        "predicted_high": prediction.high,
    }


def measure(point: Point, *, dry: bool) -> dict[str, int | None]:
    """Run the point's steps in this process; the peaks, or None each on a CPU."""
    import torch

    from core.training.loss import labelled_loss_sum

    device = "cpu" if dry else "cuda"
    shape = card_for(point.model).shape
    model = build(tiny(shape) if dry else shape, point, device)
    optimizer = _optimizer(model, point)
    length = 64 if dry else point.seq_length
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(0, vocabulary, (point.micro_batch, length), device=device)
    for _ in range(2):
        loss = labelled_loss_sum(model, ids, ids) / ids.numel()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if dry:
        return dict.fromkeys(MEASURED)
    torch.cuda.synchronize()
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "nvml": _own_memory(),
    }


def tiny(shape: ModelShape) -> ModelShape:
    """The architecture with little in it, for the dry run."""
    return replace(
        shape, layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, head_dim=16,
        vocabulary=256, context=128,
    )  # fmt: skip


def build(shape: ModelShape, point: Point, device: str) -> Any:
    """Random weights, quantised for qlora, adapted and checkpointed as the trainer does it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from core.recipe import MethodSection
    from core.training.adapters import with_adapter

    config = AutoConfig.for_model(shape.model_type, **config_arguments(shape))
    with torch.device("cpu" if point.method == "qlora" else device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    if point.method == "qlora":
        _quantise(model)
    model.to(device)
    model.config.use_cache = False
    adapted = with_adapter(model, MethodSection(name=point.method)).train()
    for parameter in adapted.parameters():
        if point.method == "qlora" and parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)  # as TRL does
    if point.checkpointing:
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
        adapted.enable_input_require_grads()
    return adapted


def _quantise(model: Any) -> None:
    """Every linear of the decoder in NF4; it is packed when it is moved to its device."""
    import torch
    from bitsandbytes.nn import Linear4bit, Params4bit

    for module in list(model.model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is not torch.nn.Linear:
                continue
            packed = Linear4bit(
                child.in_features, child.out_features, bias=child.bias is not None,
                compute_dtype=torch.bfloat16, quant_type="nf4", compress_statistics=True,
            )  # fmt: skip
            packed.weight = Params4bit(
                child.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=True
            )
            packed.bias = child.bias
            setattr(module, name, packed)


def _optimizer(model: Any, point: Point) -> Any:
    import torch

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if point.optimizer == "adamw-8bit":
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(trained, lr=1e-5)
    return torch.optim.AdamW(trained, lr=1e-5)


def _own_memory() -> int | None:
    """What NVML shows for this process; the device's use where it lists no processes."""
    import os

    from core.hardware.readings import read_machine

    gpu = read_machine().gpus[0]
    own = [process.memory for process in gpu.processes if process.pid == os.getpid()]
    return own[0] if own else gpu.used


def run(points: list[Point], out: Path, *, dry: bool) -> None:
    """The whole grid, one process a point, one line each as soon as it is known."""
    columns = [*asdict(points[0]), *predicted(points[0]), *MEASURED, "problem"]
    with out.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for point in points:
            writer.writerow({**asdict(point), **predicted(point), **_in_child(point, dry=dry)})
            file.flush()


def _in_child(point: Point, *, dry: bool) -> dict[str, Any]:
    arguments = ["--point", json.dumps(asdict(point))] + (["--dry-run"] if dry else [])
    child = subprocess.run(
        [sys.executable, "-m", "tests.gpu.memory_grid", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = child.stdout.strip().splitlines()
    if child.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return {**found, "problem": ""}
    return {"problem": (child.stderr.strip().splitlines() or ["no output"])[-1][:200]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--point", help="run this one configuration (JSON) and print its peaks")
    parser.add_argument("--first", type=int, help="only the first N configurations")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure(Point(**json.loads(options.point)), dry=options.dry_run)))
    elif options.out:
        run(grid()[: options.first], options.out, dry=options.dry_run)
    else:
        parser.error("name the CSV file to write")


if __name__ == "__main__":
    main()
