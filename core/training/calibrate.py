"""Real steps of small random models, timed: what `tunedeck calibrate` runs as a child process.

    python -P -m core.training.calibrate

The trainer's own loading, adapters and loss; nothing is downloaded. Every point is a JSON line on
stdout: its settings, tokens a second, and torch's peaks. A method that fails says so and the rest
goes on. On a GPU what one more step needs is kept, for the memory predictions to come.
"""

from __future__ import annotations

import gc
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
        recipe = _recipe(point, Path(folder))
        model, shape = _made(point, recipe, Path(folder))
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
        _forget_peaks()
        seconds = list(_timed_steps(model, optimizer, point))
        keep_peaks(model, optimizer, point, recipe, Path(folder))
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


def _recipe(point: Point, folder: Path) -> Recipe:
    """The recipe that a step of this point belongs to."""
    return Recipe.model_validate(
        {
            "model": str(folder),
            "data": "none",
            "method": {"name": point.method},
            "training": {"micro_batch": point.rows, "gradient_accumulation": 1},
        }
    )


def _made(point: Point, recipe: Recipe, folder: Path) -> tuple[Any, ModelShape]:
    """Random weights written to the folder, and loaded from there as the worker loads a model."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from core.training.adapters import with_adapter
    from core.training.loading import load_base

    tree = config_of(point)
    config = AutoConfig.for_model(**{k: v for k, v in tree.items() if k != "architectures"})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    model = with_adapter(load_base(folder, recipe), recipe.method)
    if recipe.method.base_bits < 16:  # as TRL does to LoRA on a quantised base
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    return model.train(), shape_of_config(tree)


def _timed_steps(model: Any, optimizer: Any, point: Point) -> Iterator[float]:
    """Seconds of each step after the first few."""
    import torch

    started = time.monotonic()
    for step in range(WARM_UP + TIMED):
        began = time.perf_counter()
        _step(model, optimizer, point, labelled=point.length // 2)  # half a row is its prompt
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        enough = time.monotonic() - started > SECONDS_A_POINT and step > 0
        if step >= WARM_UP or enough:
            yield time.perf_counter() - began
        if enough:
            return


def _step(model: Any, optimizer: Any, point: Point, *, labelled: int) -> None:
    """Forward, backward, clipping, update; the last `labelled` tokens of each row count."""
    import torch

    from core.data.encoding import IGNORED

    device = next(model.parameters()).device
    ids = torch.randint(0, point.vocabulary, (point.rows, point.length), device=device)
    labels = ids.clone()
    labels[:, : point.length - labelled] = IGNORED
    (_loss_sum(model, ids, labels) / labels.numel()).backward()
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _loss_sum(model: Any, ids: Any, labels: Any) -> Any:
    """By the head that the trainer takes: the fused one on a GPU, unless logits are few."""
    from core.memory.setup import FUSED_FROM_LOGITS
    from core.training.loss import labelled_loss_sum, labelled_tokens

    vocabulary = model.config.get_text_config().vocab_size
    if ids.device.type != "cuda" or labelled_tokens(labels) * vocabulary <= FUSED_FROM_LOGITS:
        return labelled_loss_sum(model, ids, labels)
    return -model(input_ids=ids, labels=labels, fused_lm_head=True).log_probs.sum()


def keep_peaks(model: Any, optimizer: Any, point: Point, recipe: Recipe, folder: Path) -> None:
    """What a step needs in which every token counts, as the predictions have it. Nothing on a
    CPU; a home that cannot be written is no reason to measure no speed."""
    import torch

    from core.training.measured import remember_memory

    if not torch.cuda.is_available():
        return
    _forget_peaks()
    _step(model, optimizer, point, labelled=point.length)
    found: dict[str, float | int] = {
        "rows": point.rows,
        "tokens": point.length,
        "step_allocated": int(torch.cuda.max_memory_allocated()),
        "step_reserved": int(torch.cuda.max_memory_reserved()),
    }
    remember_memory(found, recipe, folder, gradient_checkpointing=False)


def _forget_peaks() -> None:
    """Peaks from now on; and what a model before this one has left is given back."""
    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _send(**message: Any) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    sys.exit(main())
