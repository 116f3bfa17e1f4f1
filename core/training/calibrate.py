"""Real steps of small random models, timed: what `tunedeck calibrate` runs as a child process.

    python -P -m core.training.calibrate

The trainer's own loading, adapters and loss; nothing is downloaded. Every point is a JSON line on
stdout: its settings, tokens a second, and torch's peaks. A method that fails says so and the rest
goes on.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.hardware.host import cores
from core.models.catalogue import ModelShape
from core.models.shape import shape_of_config
from core.recipe import Recipe
from core.training.device import prepare_environment

WARM_UP, TIMED = 2, 4
SECONDS_A_POINT = 60.0  # a slow machine times fewer steps


@dataclass(frozen=True, slots=True)
class Point:
    """A small Llama and a batch for it."""

    method: str
    hidden: int
    layers: int
    vocabulary: int
    rows: int
    length: int


def grid(*, on_gpu: bool) -> list[Point]:
    """Large enough to keep the device busy, small enough to be over in a minute or two."""
    if on_gpu:
        return [Point(method, 2048, 8, 32_000, 8, 1024) for method in ("lora", "qlora", "full")]
    return [Point(method, 512, 6, 8_192, 4, 128) for method in ("lora", "full")]


def config_of(point: Point) -> dict[str, Any]:
    """As config.json would have it."""
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": point.hidden,
        "intermediate_size": point.hidden * 11 // 4,
        "num_hidden_layers": point.layers,
        "num_attention_heads": point.hidden // 64,
        "num_key_value_heads": max(1, point.hidden // 128),
        "vocab_size": point.vocabulary,
        "max_position_embeddings": 2 * point.length,
        "tie_word_embeddings": False,
    }


def main() -> int:
    prepare_environment("auto")
    import torch

    for point in grid(on_gpu=torch.cuda.is_available()):
        try:
            _send(kind="point", **measure(point))
        except Exception as error:  # noqa: BLE001 - one method that fails must not cost the rest
            _send(kind="problem", method=point.method, message=f"{type(error).__name__}: {error}")
    return 0


def measure(point: Point) -> dict[str, Any]:
    """The fields of a measurement (`core.planning.calibration.Measurement`) but for its source."""
    import torch

    from core.planning.calibration import installed_stack
    from core.training.measured import device_name

    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as folder:
        model, shape = _made(point, Path(folder))
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        seconds = list(_timed_steps(model, point))
    return {
        "device": device_name(),
        "on_gpu": on_gpu,
        "cores": cores(),
        "method": point.method,
        "stack": installed_stack(),
        "shape": asdict(shape),
        "tokens_per_s": point.rows * point.length / sorted(seconds)[len(seconds) // 2],
        "tokens_per_row": float(point.length),
        "micro_batch": point.rows,
        "gradient_checkpointing": False,
        "peak_allocated": torch.cuda.max_memory_allocated() if on_gpu else None,
        "peak_reserved": torch.cuda.max_memory_reserved() if on_gpu else None,
    }


def _made(point: Point, folder: Path) -> tuple[Any, ModelShape]:
    """Random weights written to the folder, and loaded from there as the worker loads a model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from core.training.adapters import with_adapter
    from core.training.loading import load_base

    tree = config_of(point)
    config = AutoConfig.for_model(**{k: v for k, v in tree.items() if k != "architectures"})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    recipe = Recipe.model_validate(
        {"model": str(folder), "data": "none", "method": {"name": point.method}}
    )
    model = with_adapter(load_base(folder, recipe), recipe.method)
    return model.train(), shape_of_config(tree)


def _timed_steps(model: Any, point: Point) -> Iterator[float]:
    """Seconds of each step after the first few: forward, backward, clipping, update."""
    import torch

    from core.data.encoding import IGNORED
    from core.training.loss import labelled_loss_sum

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    device = next(model.parameters()).device
    ids = torch.randint(0, point.vocabulary, (point.rows, point.length), device=device)
    labels = ids.clone()
    labels[:, : point.length // 2] = IGNORED  # half a row is its prompt
    started = time.monotonic()
    for step in range(WARM_UP + TIMED):
        began = time.perf_counter()
        loss = labelled_loss_sum(model, ids, labels) / labels.numel()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        enough = time.monotonic() - started > SECONDS_A_POINT and step > 0
        if step >= WARM_UP or enough:
            yield time.perf_counter() - began
        if enough:
            return


def _send(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    sys.exit(main())
