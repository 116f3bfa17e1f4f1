"""What a checkpoint is bound to: a run goes on only as the run that it was.

Everything in a recipe counts unless it is known not to: where it runs, how often it saves, how
long it trains, what is measured at its end.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

from core.data.sources import is_hub_id, resolve
from core.errors import UserError
from core.methods import Knob
from core.recipe import DataSection, Recipe

FILE = "identity.json"
SOURCES = "sources.json"
FREE = {"version", "name", "merge", "trial"}
FREE_SECTIONS = {"evaluation", "hardware"}
FREE_IN_TRAINING = {
    "epochs",
    "max_steps",
    "max_grad_norm",
    "micro_batch",
    "gradient_accumulation",
    "gradient_checkpointing",
    "batch",
    "packing",
    "attention",
    "kernels",
    "compile",
    "tf32",
    "eval_steps",
    "save_steps",
    "save_minutes",
    "keep_checkpoints",
    "early_stopping",
    "trackers",
    "patience",
}
PLACES = {"model.id", "data.train", "data.eval"}

Identity = dict[str, Any]


def identity(recipe: Recipe) -> Identity:
    """The keys that must not change between two sessions of a run, with their values."""
    found: Identity = {}
    for name, value in recipe.model_dump(mode="json").items():
        if name in FREE or name in FREE_SECTIONS:
            continue
        if not isinstance(value, dict):
            found[name] = value
            continue
        for key, inner in value.items():
            if name != "training" or key not in FREE_IN_TRAINING:
                found[f"{name}.{key}"] = inner
    for knob in set(get_args(Knob)) - recipe.method.spec.knobs:
        del found[f"method.{knob}"]  # means nothing to this method
    found["method.bits"] = recipe.method.base_bits
    found["training.effective_batch"] = recipe.training.effective_batch
    return found


def checkpoint_identity(recipe: Recipe, base: Path, rows: Path) -> Identity:
    """The same with contents in place of places: files may lie elsewhere on the next machine."""
    found = {key: value for key, value in identity(recipe).items() if key not in PLACES}
    found["base model"] = {"id": recipe.model.id, "digest": _model_digest(base)}
    found["encoded rows"] = file_digest(rows)
    return found


def differences(before: Identity, now: Identity) -> list[str]:
    """What has changed, as `key: before → now`. A key that only one side knows is no change."""
    found = []
    for key, old in before.items():
        new: Any = now.get(key, old)
        if key == "base model" and old["digest"] == new["digest"]:
            continue
        if key == "base model":
            same = old["id"] == new["id"]
            found.append(f"{key}: its files" if same else f"{key}: {old['id']} → {new['id']}")
        elif key == "encoded rows" and old != new:
            found.append(f"{key}: not those it began with")
        elif old != new:
            found.append(f"{key}: {_shown(old)} → {_shown(new)}")
    return found


def check_same(before: Identity, now: Identity, what: str) -> None:
    """UserError with the difference when `what` cannot be gone on with."""
    found = differences(before, now)
    if found:
        raise UserError(
            f"{what} cannot be gone on with, for the recipe has changed: {'; '.join(found)}.",
            "Undo the change, or start a new run under another name.",
        )


def write_identity(folder: Path, found: Identity) -> None:
    (folder / FILE).write_text(json.dumps(found), encoding="utf-8")


def read_identity(folder: Path) -> Identity:
    """What `write_identity` kept; empty (which fits everything) where it did not."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def source_digests(data: DataSection) -> dict[str, str]:
    """The local files that the rows come from, by path. Data on the hub has none."""
    found = {}
    for name in [*data.train, *data.eval]:
        if is_hub_id(name):
            continue
        try:
            source = resolve([name], to_evaluate=name not in data.train)
            set_apart = [one for one in source.held_out if not data.eval and data.eval_by_name]
            more = [file for one in set_apart for file in resolve([one], to_evaluate=True).files]
        except UserError:
            continue  # gone; the run has its own copy of the rows
        found.update({str(file.path): file_digest(file.path) for file in (*source.files, *more)})
    return found


def file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _model_digest(base: Path) -> str:
    """Config and sizes of the weights; to read tens of GB would take minutes."""
    sizes = sorted((file.name, file.stat().st_size) for file in base.glob("*.safetensors"))
    config = (base / "config.json").read_bytes() if (base / "config.json").is_file() else b""
    return hashlib.sha256(config + json.dumps(sizes).encode()).hexdigest()


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
