"""Predicted against measured memory, on the GPU at hand: `python -m tests.gpu.memory_grid out.csv`.

Each configuration runs in a process of its own, so that one that does not fit costs a row and no
more: random weights of the right shape, the trainer's own adapter and loss, two steps of forward,
backward and update on rows whose every token is trained on. The table holds the prediction, torch's
peaks and what NVML shows for the process. Rows that are in the file already are not run again. With
`--keep` every row also corrects TuneDeck's predictions for this GPU from then on. Without a GPU,
`--dry-run` runs tiny models on the CPU and leaves the measured columns empty; `--summary` reads a
table and says how far the predictions were off, and whether any “fits” was false.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core.memory.formula import Method, predict_setup
from core.memory.setup import Setup
from core.methods import Bits
from core.models.as_config import config_arguments
from core.models.catalogue import ModelShape, card_for
from core.units import GIB

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
FULL_BELOW, DORA_BELOW = 5e9, 9e9
CARDS = (8, 12, 16, 24, 40, 48, 80)  # GiB
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
    bits: Bits | None = None

    def setup(self, shape: ModelShape | None = None) -> Setup:
        return Setup(
            shape or card_for(self.model).shape,
            self.method,
            micro_batch=self.micro_batch,
            seq_length=self.seq_length,
            gradient_checkpointing=self.checkpointing,
            optimizer=self.optimizer,
            bits=self.bits,
        )

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(str(value) for value in asdict(self).values())


def grid() -> list[Point]:
    """At least forty: methods × lengths × checkpointing, both optimisers for full."""
    points = []
    for model, length, checkpointing in itertools.product(MODELS, (512, 2048), (True, False)):
        size = card_for(model).shape.parameters
        points += [Point(model, method, length, checkpointing) for method in ("lora", "qlora")]
        if size < DORA_BELOW and length == 2048:
            points.append(Point(model, "dora", length, checkpointing))
        if size < FULL_BELOW and checkpointing:
            for optimizer in ("adamw", "adamw-8bit"):
                points.append(Point(model, "full", length, checkpointing, optimizer))
    points.append(Point("meta-llama/Llama-3.1-8B", "lora", 1024, True, "adamw-8bit", bits=8))
    return [*points, Point(LARGE, "qlora", 1024, checkpointing=True)]


def predicted(point: Point) -> dict[str, int]:
    """The formula's numbers for the columns of the table."""
    prediction = predict_setup(point.setup())
    return {
        "predicted_allocated": prediction.allocated,
        "predicted_reserved": prediction.reserved,
        "predicted_nvml": prediction.peak,
        "predicted_high": prediction.high,
    }


def measure(point: Point, *, dry: bool, kept: bool = False) -> dict[str, int | None]:
    """Run the point's steps in this process; the peaks, or None each on a CPU."""
    import torch

    device = "cpu" if dry else "cuda"
    shape = card_for(point.model).shape
    if dry:
        point, shape = replace(point, seq_length=64), tiny(shape)
    model = build(shape, point, device)
    optimizer = _optimizer(model, point)
    for _ in range(2):
        _loss(model, point, device).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if dry:
        return dict.fromkeys(MEASURED)
    torch.cuda.synchronize()
    found: dict[str, int | None] = {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "nvml": _own_memory(),
    }
    if kept:
        _keep(point, found)
    return found


def _loss(model: Any, point: Point, device: str) -> Any:
    """As the trainer chooses it: whole logits where they are few, else TRL's fused head."""
    import torch

    from core.memory.setup import FUSED_FROM_LOGITS
    from core.training.loss import labelled_loss_sum

    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(0, vocabulary, (point.micro_batch, point.seq_length), device=device)
    if device == "cuda" and ids.numel() * vocabulary > FUSED_FROM_LOGITS:
        found = model(input_ids=ids, labels=ids, fused_lm_head=True)
        return -found.log_probs.sum() / ids.numel()
    return labelled_loss_sum(model, ids, ids) / ids.numel()


def tiny(shape: ModelShape) -> ModelShape:
    """The architecture with little in it, for the dry run."""
    return replace(
        shape, layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2, head_dim=16,
        vocabulary=256, context=128,
    )  # fmt: skip


def build(shape: ModelShape, point: Point, device: str) -> Any:
    """Random weights, packed where the method wants it, adapted and checkpointed as the trainer
    does it. What is packed is made on the CPU a weight at a time, never whole."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from core.recipe import MethodSection
    from core.training.adapters import with_adapter

    method = MethodSection(name=point.method, bits=point.bits)
    packed = method.base_bits < 16
    config = AutoConfig.for_model(shape.model_type, **config_arguments(shape))
    with torch.device("meta" if packed else device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    if packed:
        pack(model, method.base_bits, device)
    model.config.use_cache = False
    setattr(model, f"is_loaded_in_{method.base_bits}bit", packed)
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    adapted = with_adapter(model, method).train()
    for name, parameter in adapted.named_parameters():
        if packed and parameter.requires_grad and "lora_magnitude_vector" not in name:
            parameter.data = parameter.data.to(torch.bfloat16)  # as TRL does
    if point.checkpointing:
        adapted.gradient_checkpointing_enable({"use_reentrant": False})
        if method.spec.has_adapter:
            adapted.enable_input_require_grads()
    return adapted


def pack(model: Any, bits: Bits, device: str) -> None:
    """Every plain linear of the decoder in NF4 or 8 bits, one after another; what else has no
    weights yet gets random ones."""
    import torch
    from bitsandbytes.nn import Int8Params, Linear4bit, Linear8bitLt, Params4bit

    head = model.get_output_embeddings()
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is not torch.nn.Linear or child is head:
                continue
            weight = torch.randn(child.weight.shape, dtype=torch.bfloat16) * 0.02
            shape, bias = (child.in_features, child.out_features), child.bias is not None
            if bits == 4:
                made = Linear4bit(
                    *shape, bias=bias, compute_dtype=torch.bfloat16, quant_type="nf4",
                    compress_statistics=True, device="meta",
                )  # fmt: skip
                made.weight = Params4bit(
                    weight, requires_grad=False, quant_type="nf4", compress_statistics=True
                )
            else:
                made = Linear8bitLt(*shape, bias=bias, has_fp16_weights=False, threshold=6.0,
                                    device="meta")  # fmt: skip
                made.weight = Int8Params(weight, requires_grad=False, has_fp16_weights=False)
            made.bias = child.bias
            setattr(module, name, _filled(made, device))
    _filled(model, device)


def _filled(module: Any, device: str) -> Any:
    """The module on its device, with zeros where it had no storage; packed weights are packed on
    the way."""
    import torch

    for child in module.modules():
        for name, tensor in [*child._parameters.items(), *child._buffers.items()]:
            if tensor is not None and tensor.is_meta:
                there = torch.zeros_like(tensor, device=device)
                kept = torch.nn.Parameter(there) if name in child._parameters else there
                setattr(child, name, kept)
    return module.to(device)


def _optimizer(model: Any, point: Point) -> Any:
    import torch

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if point.optimizer == "adamw-8bit":
        from bitsandbytes.optim import AdamW8bit, GlobalOptimManager

        for module in model.modules():  # as transformers does
            if isinstance(module, torch.nn.Embedding):
                GlobalOptimManager.get_instance().register_module_override(
                    module, "weight", {"optim_bits": 32}
                )
        return AdamW8bit(trained, lr=1e-5)
    return torch.optim.AdamW(trained, lr=1e-5, fused=True)


def _own_memory() -> int | None:
    """What NVML shows for this process; the device's use where it lists no processes."""
    import os

    from core.hardware.readings import read_machine

    gpu = read_machine().gpus[0]
    own = [process.memory for process in gpu.processes if process.pid == os.getpid()]
    return own[0] if own else gpu.used


def _keep(point: Point, found: dict[str, int | None]) -> None:
    """For the predictions to come on this GPU."""
    from core.memory.measured import Seen, keep
    from core.planning.calibration import installed_stack
    from core.training.measured import device_name

    allocated, reserved = found["allocated"], found["reserved"]
    assert allocated is not None
    assert reserved is not None
    keep(Seen(device_name(), installed_stack(), point.setup(), allocated, reserved, found["nvml"]))


def run(points: Sequence[Point], out: Path, *options: str) -> None:
    """The grid, one process a point, one line each as soon as it is known; what is there stays."""
    known = {key_of(row) for row in rows_of(out)}
    columns = [*asdict(points[0]), *predicted(points[0]), *MEASURED, "problem"]
    fresh = not out.exists()
    with out.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if fresh:
            writer.writeheader()
        for point in points:
            if point.key not in known:
                writer.writerow({**asdict(point), **predicted(point), **in_child(point, *options)})
                file.flush()


def rows_of(out: Path) -> list[dict[str, str]]:
    if not out.exists():
        return []
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def key_of(row: dict[str, str]) -> tuple[str, ...]:
    """The point of a row, as `Point.key` has it."""
    return tuple(row[name] or "None" for name in Point.__dataclass_fields__)


def in_child(point: Point, *options: str) -> dict[str, Any]:
    child = subprocess.run(
        [sys.executable, "-m", "tests.gpu.memory_grid", "--point", json.dumps(asdict(point)),
         *options],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    lines = child.stdout.strip().splitlines()
    if child.returncode == 0 and lines:
        found: dict[str, Any] = json.loads(lines[-1])
        return {**found, "problem": ""}
    return {"problem": (child.stderr.strip().splitlines() or ["no output"])[-1][:200]}


def summary(rows: Sequence[dict[str, str]]) -> list[str]:
    """How far off the predictions were, and the cards on which a “fits” would have been false:
    the upper bound within them, the measured beyond."""
    measured = [row for row in rows if row["nvml"]]
    lines = [f"{len(measured)} of {len(rows)} configurations measured"]
    for name in MEASURED if measured else ():
        errors = sorted(abs(int(row[f"predicted_{name}"]) / int(row[name]) - 1) for row in measured)
        lines.append(
            f"{name}: off by {statistics.median(errors):.2%} in the median, "
            f"{errors[-1]:.2%} at worst"
        )
    for card in CARDS:
        false = [
            row for row in measured
            if int(row["predicted_high"]) <= card * GIB < int(row["nvml"])
        ]  # fmt: skip
        lines += [f"false “fits” on {card} GiB: {' '.join(key_of(row))}" for row in false]
    if measured and len(lines) == 1 + len(MEASURED):
        lines.append(f"no false “fits” on {', '.join(map(str, CARDS))} GiB")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--keep", action="store_true", help="correct later predictions with it")
    parser.add_argument("--point", help="run this one configuration (JSON) and print its peaks")
    parser.add_argument("--first", type=int, help="only the first N configurations")
    parser.add_argument("--summary", action="store_true", help="only read the table")
    options = parser.parse_args()
    if options.point:
        point = Point(**json.loads(options.point))
        print(json.dumps(measure(point, dry=options.dry_run, kept=options.keep)))
        return
    if options.out is None:
        parser.error("name the CSV file to write")
    if not options.summary:
        chosen = [name for name in ("--dry-run", "--keep") if name in sys.argv]
        run(grid()[: options.first], options.out, *chosen)
    print("\n".join(summary(rows_of(options.out))))


if __name__ == "__main__":
    main()
