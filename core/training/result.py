"""The result of a training: adapter/, or merged/ where the model's own weights were trained."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from core.data.prepared import Prepared
from core.data.tokenizer import Tokenizer
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.training import pissa
from core.training.checkpoints import MANIFEST, publish
from core.training.copying import copy_to_all
from core.training.together import place

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


def copy_result(run: RunDirectory, recipe: Recipe) -> None:
    """From the first process, which has saved it, to the other machines of the run."""
    result = run.adapter if recipe.method.spec.has_adapter else run.merged
    folder = result if place().rank == 0 else result.with_name(f".{result.name}.saving")
    copy_to_all(folder)
    if place().writes and folder != result:
        publish(folder, result)
        os.remove(result / MANIFEST)


def save_result(
    run: RunDirectory,
    recipe: Recipe,
    base: Path,
    tokenizer: Tokenizer,
    prepared: Prepared,
    model: Any,
    weights: dict[str, Any] | None = None,
) -> None:
    """The folder that the method leaves, complete with its tokenizer, in one step.

    `weights`: where several processes hold parts of the model, the whole of it.
    """
    place = run.adapter if recipe.method.spec.has_adapter else run.merged
    folder = place.with_name(f".{place.name}.saving")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _save_weights(run, recipe, model, folder, weights)
        for name in TOKENIZER_FILES:
            if (base / name).is_file():
                shutil.copyfile(base / name, folder / name)
        if not tokenizer.has_template and prepared.ledger.format != "text":
            (folder / "chat_template.jinja").write_text(tokenizer.template, encoding="utf-8")
        publish(folder, place)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # what a full disk has cut short
    os.remove(place / MANIFEST)


def _save_weights(
    run: RunDirectory, recipe: Recipe, model: Any, folder: Path, weights: dict[str, Any] | None
) -> None:
    if not recipe.method.spec.has_adapter:
        model.config.use_cache = True
        model.save_pretrained(folder, state_dict=None if weights is None else _once(model, weights))
        return
    model.peft_config["default"].base_model_name_or_path = recipe.model.id
    if recipe.method.name == "pissa":
        pissa.save_as_lora(model, run.checkpoints, folder)
    else:
        model.save_pretrained(folder, save_embedding_layers=False, state_dict=weights)


def _once(model: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """Weights that are tied lie under one name alone, as in the base: put together from parts they
    are copies, and a copy is not recognised as the same weight."""
    tied: dict[str, str] = model.all_tied_weights_keys
    return {name: value for name, value in weights.items() if tied.get(name) not in weights}
