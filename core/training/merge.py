"""Merging an adapter into its base, so that the result loads everywhere as a plain model.

Never in place into quantised layers: the 4-bit base is dequantised first, so that what is
merged is what the adapter was trained on. Nothing is called merged before the folder has been
loaded again and answers as the adapter did. Imports torch: child processes only.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from core.errors import UserError, describe_os_error
from core.inference.loading import check_model_folder, choose_device, first_line, weight_bytes
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.units import bytes_text

# How far the logits of adapter and merged model may lie apart, as a share of the logits' own
# spread (both root mean square, each position's mean taken off, which no probability depends
# on). A correct merge of a 30-layer model in bf16 measures 0.04, its rounding against 32 bits
# alone 0.03, and a model without its adapter 0.5.
TOLERANCE = {"bfloat16": 0.1, "float16": 0.02, "float32": 0.001}
CHECKED_ROWS = 4
CHECKED_TOKENS = 256


@dataclass(frozen=True, slots=True)
class Proof:
    """That a merge did what it should: how much it changed, and how well it agrees.

    `changed` of `adapted` layers differ from the base; `difference` is the distance between the
    logits of adapter and merged model (see `TOLERANCE`).
    """

    adapted: int
    changed: int
    difference: float
    tolerance: float


def merge(run: RunDirectory, recipe: Recipe, base: Path, samples: Sequence[Sequence[int]]) -> Proof:
    """Write merged/ from adapter/ and the base, and prove it on the token rows `samples`.

    It appears whole or not at all. UserError when the merge changed nothing, does not answer as
    the adapter does, or finds no room on the disk.
    """
    remove_leftovers(run)
    check_model_folder(base)
    _check_room(run, base)
    rows = [list(row[:CHECKED_TOKENS]) for row in samples[:CHECKED_ROWS]]
    temporary = run.path / f".merged.{os.getpid()}.tmp"
    try:
        proof = _write_merged(run, recipe, base, rows, temporary)
        _check(proof)
        os.replace(temporary, run.merged)
    except OSError as error:
        raise describe_os_error(error, "write the merged model") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return proof


def remove_leftovers(run: RunDirectory) -> None:
    """Delete what a killed merge left behind."""
    for folder in run.path.glob(".merged.*.tmp"):
        shutil.rmtree(folder, ignore_errors=True)


def _write_merged(
    run: RunDirectory, recipe: Recipe, base: Path, rows: list[list[int]], folder: Path
) -> Proof:
    model, layers = _load_with_adapter(run, recipe, base)
    expected = _logits(model, rows)
    before = {name: _fingerprint(layer.base_layer.weight) for name, layer in layers.items()}
    merged = model.merge_and_unload(safe_merge=True)
    weights = {name: merged.get_submodule(name).weight for name in layers}
    changed = sum(_fingerprint(weights[name]) != before[name] for name in layers)
    dtype, device = str(merged.dtype).removeprefix("torch."), str(merged.device)
    _save_model(merged, folder)
    _copy_what_lies_beside(run.adapter, folder)
    del model, merged, weights, layers
    difference = _difference(folder, device, expected, rows)
    return Proof(len(before), changed, difference, TOLERANCE.get(dtype, TOLERANCE["bfloat16"]))


def _load_with_adapter(run: RunDirectory, recipe: Recipe, base: Path) -> tuple[Any, dict[str, Any]]:
    """The base with the adapter on top, in 16 or 32 bits, and the layers that it changes."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    model = _load_base(recipe, base)
    try:  # a torn file, another base, another version's configuration: each raises its own kind
        adapted = PeftModel.from_pretrained(model, str(run.adapter)).eval()
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise UserError(
            f"The adapter in {run.adapter} cannot be loaded: {first_line(error)}"
        ) from error
    inner = adapted.get_base_model()
    layers = {name: m for name, m in inner.named_modules() if isinstance(m, BaseTunerLayer)}
    return adapted, layers


def _load_base(recipe: Recipe, base: Path) -> Any:
    """The base as the adapter knew it: for QLoRA its 4-bit weights, dequantised.

    On the GPU where all of it has room in 16 bits, else in RAM, whatever it was trained on.
    """
    from core.training.loading import load_base, plain_weights

    wanted = "cpu" if recipe.hardware.gpu == "cpu" else "auto"
    model = load_base(base, recipe, choose_device(weight_bytes(base), wanted))
    model.config.use_cache = True  # off while training; the merged model is for answering
    return plain_weights(model) if recipe.method.base_bits < 16 else model


def _fingerprint(weight: Any) -> int:
    """The sum of the weights' bits: it moves with any change, and costs no memory to keep."""
    import torch

    bits = {2: torch.int16, 4: torch.int32}[weight.element_size()]
    return int(weight.detach().view(bits).sum(dtype=torch.int64))


def _logits(model: Any, rows: list[list[int]]) -> Any:
    """The logits at every token of the rows, one after another.

    In one batch: on a CPU every new length costs a second or two of preparation.
    """
    import torch

    width = max(len(row) for row in rows)
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    with torch.inference_mode():
        logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
    return _centred(logits.float().cpu()[mask.bool()])


def _difference(folder: Path, device: str, expected: Any, rows: list[list[int]]) -> float:
    """How far the saved model's logits lie from the adapter's, as a share of their spread."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", local_files_only=True, device_map={"": device}
    )
    return float((_logits(model.eval(), rows) - expected).norm() / expected.norm())


def _centred(logits: Any) -> Any:
    return logits - logits.mean(-1, keepdim=True)


def _check(proof: Proof) -> None:
    if proof.changed == 0:
        raise UserError(
            f"Merging changed none of {proof.adapted} layers: the adapter has learned nothing, or "
            "too little for the precision of the weights.",
            "Train longer or with a higher training.learning_rate.",
        )
    # Written so that NaN fails.
    if not proof.difference <= proof.tolerance:
        raise UserError(
            f"The merged model does not answer as the adapter does: their logits differ by "
            f"{proof.difference:.1%} of their spread, where {proof.tolerance:.1%} is rounding.",
            "The adapter is kept in adapter/; please report this.",
        )


def _save_model(model: Any, folder: Path) -> None:
    """Weights, config and generation config. A full disk is raised as OSError, like any other."""
    settings = model.generation_config
    if settings is not None and not settings.do_sample:
        # Temperature and the like without sampling are refused; their author meant sampling.
        settings.do_sample = _has_sampling_settings(settings)
    try:
        model.save_pretrained(folder)
    except (RuntimeError, SafetensorError) as error:
        if "no space left" in str(error).lower() or "os error 28" in str(error).lower():
            raise OSError(28, "no space left on device", str(folder)) from error
        raise


def _has_sampling_settings(settings: Any) -> bool:
    usual = {"temperature": 1.0, "top_p": 1.0, "top_k": 50, "min_p": None, "typical_p": 1.0}
    return any(getattr(settings, key, None) not in (None, usual[key]) for key in usual)


def _copy_what_lies_beside(adapter: Path, folder: Path) -> None:
    """The tokenizer and the chat template that were trained with, as they are."""
    for file in adapter.iterdir():
        ours = file.name.startswith("adapter_") or file.name == "README.md"
        if file.is_file() and not ours and not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)


def _check_room(run: RunDirectory, base: Path) -> None:
    """Merging takes as much disk as the base in 16 bits."""
    needed = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    free = shutil.disk_usage(run.path).free
    if free < needed * 1.05:
        raise UserError(
            f"The merged model needs {bytes_text(needed)} on the disk of {run.path}; "
            f"{bytes_text(free)} is free.",
            "Free some space and resume the run; the adapter is kept.",
        )
