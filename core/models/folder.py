"""What a folder must hold to be a model, and one sentence for each thing that is missing."""

from __future__ import annotations

import json
from pathlib import Path

from core.errors import UserError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
WEIGHT_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLE_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def missing(folder: Path, *, weights: bool = True) -> list[str]:
    """What keeps `folder` from being a model that can be loaded; empty when nothing does."""
    problems = []
    if not (folder / "config.json").is_file():
        problems.append("it has no config.json")
    if weights and (problem := missing_weights(folder)):
        problems.append(problem)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        problems.append("it has no tokenizer (tokenizer.json)")
    return problems


def missing_weights(folder: Path) -> str:
    """What is wrong with the weights, or an empty text."""
    for name in WEIGHT_INDEXES:
        if (folder / name).is_file():
            absent = [part for part in _shards(folder / name) if not (folder / part).is_file()]
            return (
                f"{len(absent)} of its weight files are missing ({absent[0]}, …)" if absent else ""
            )
    found = any((folder / name).is_file() for name in SINGLE_WEIGHTS)
    return "" if found else "it has no weights (model.safetensors)"


def _shards(index: Path) -> list[str]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    except (OSError, ValueError, KeyError, AttributeError):
        return [index.name + " (unreadable)"]
    return sorted({str(name) for name in names})


def check_local(path: Path, *, weights: bool = True) -> Path:
    """`path` if it is a model's folder; else a UserError that says what it is or lacks."""
    if path.is_file():
        raise _not_a_folder(path)
    if not path.is_dir():
        raise UserError(f"There is no folder {path}.", "Check the path, or give a hub id.")
    problems = missing(path, weights=weights)
    if not problems:
        return path
    if (path / "adapter_config.json").is_file() and "it has no config.json" in problems:
        raise UserError(
            f"{path} holds only an adapter, not a whole model.",
            f"Give the model it was trained on{_base_of(path)}, or a merged folder.",
        )
    if ggufs := sorted(path.glob("*.gguf")):
        raise _not_a_folder(ggufs[0])
    raise UserError(
        f"{path} is not a model that can be loaded: {'; '.join(problems)}.",
        "Give a folder written by save_pretrained, tokenizer included.",
    )


def _base_of(path: Path) -> str:
    try:
        base = json.loads((path / "adapter_config.json").read_text())["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f" ({base})"


def _not_a_folder(path: Path) -> UserError:
    if path.suffix.lower() == ".gguf":
        return UserError(
            f"{path} is a GGUF file: made for running, its weights are quantised.",
            "Fine-tuning needs the original folder with config.json and safetensors weights.",
        )
    return UserError(f"{path} is a file, not a model's folder.", "Give the folder it lies in.")
