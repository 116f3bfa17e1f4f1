"""Recipes to begin with: those that ship, and those that the user has kept."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import UserError, describe_os_error
from core.paths import expanded, home, presets_root
from core.planning.candidates import Basis, Candidate, Hyper
from core.planning.settings import Settings, priced
from core.recipe import Recipe, load_recipe
from core.training.choices import PAGED

_UNFIT = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Preset:
    """A recipe in a file. `own` marks those of the user."""

    name: str
    path: Path
    own: bool


def own_presets() -> Path:
    """The folder of the user's own."""
    return home() / "presets"


def presets() -> list[Preset]:
    """All of them, the user's own first. An own one hides one that ships under its name."""
    own = [Preset(path.stem, path, own=True) for path in sorted(own_presets().glob("*.yaml"))]
    names = {preset.name for preset in own}
    shipped = sorted((presets_root() / "recipes").glob("*.yaml"), key=_by_memory)
    return own + [Preset(p.stem, p, own=False) for p in shipped if p.stem not in names]


def _by_memory(path: Path) -> tuple[str, int]:
    job, _, size = path.stem.rpartition("-")
    return job, int(re.sub(r"\D", "", size) or 0)


def load_preset(name: str) -> Recipe:
    """The recipe of that name. UserError when there is none, or it is none."""
    for preset in presets():
        if preset.name == name:
            return load_recipe(preset.path)
    known = ", ".join(preset.name for preset in presets())
    raise UserError(f"There is no preset “{name}”.", f"There are {known}.")


def save_preset(name: str, recipe: Recipe) -> Path:
    """Keep a recipe under a name. UserError when the name is taken or cannot be written."""
    slug = _UNFIT.sub("-", name.lower()).strip("-")
    if not slug:
        raise UserError("A preset needs a name of letters from a to z, or digits.")
    path = own_presets() / f"{slug}.yaml"
    if _is_there(path, "keep the preset"):
        raise UserError(f"There is a preset “{slug}” already.", "Choose another name.")
    _write(path, recipe, "keep the preset")
    return path


def write_recipe(name: str, recipe: Recipe) -> Path:
    """Write a recipe to a file of that name. UserError when it is taken or cannot be written."""
    path = expanded(name)
    if not path.name:
        raise UserError("Type the name of a file.")
    if _is_there(path, "write the recipe"):
        raise UserError(f"{path} exists already.", "Choose another name.")
    if not path.absolute().parent.is_dir():
        raise UserError(f"There is no folder {path.parent}.", "Check the path.")
    _write(path, recipe, "write the recipe")
    return path


def _is_there(path: Path, doing: str) -> bool:
    """Whether the name is taken. UserError for one that there cannot be."""
    try:
        return path.exists()
    except OSError as error:
        raise describe_os_error(error, doing) from error


def _write(path: Path, recipe: Recipe, doing: str) -> None:
    from core.runs.directory import write_atomically

    try:
        if path.parent == own_presets():
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, recipe.to_yaml())
    except OSError as error:
        raise describe_os_error(error, doing) from error


def with_data(recipe: Recipe, like: Recipe) -> Recipe:
    """A preset's recipe for the data, the device and the name of another one."""
    return recipe.model_copy(
        update={
            "name": like.name,
            "data": recipe.data.model_copy(
                update={
                    "train": like.data.train,
                    "eval": like.data.eval,
                    "eval_by_name": like.data.eval_by_name,
                    "mapping": like.data.mapping,
                    "eval_fraction": like.data.eval_fraction,
                }
            ),
            "hardware": like.hardware,
        }
    )


def candidate_of(recipe: Recipe, basis: Basis) -> Candidate:
    """A recipe priced in memory, time and money. UserError for a model of unknown shape."""
    from core.models.catalogue import card_for

    method, training = recipe.method, recipe.training
    targets = method.target_modules
    hyper = Hyper(
        learning_rate=training.learning_rate,
        rank=method.rank,
        alpha=method.alpha,
        dropout=method.dropout,
        epochs=training.epochs,
        warmup=training.warmup,
        effective_batch=training.effective_batch,
        targets=targets if isinstance(targets, str) else tuple(targets),
        schedule=training.schedule,
        bits=method.bits,
        layers=method.layers,
        virtual_tokens=method.virtual_tokens,
        lr_ratio=method.lr_ratio,
        packing=training.packing,
    )
    checkpointing = training.gradient_checkpointing
    settings = Settings(
        card_for(recipe.model.id),
        method.name,
        hyper,
        replace(basis, objective=recipe.objective.name),
        recipe.data.max_length,
        training.micro_batch,
        training.gradient_accumulation,
        checkpointing is True or (checkpointing == "auto" and basis.on_gpu),
        sharding=recipe.hardware.sharding,
    )
    if training.optimizer != "auto":
        return priced(replace(settings, optimizer=training.optimizer))
    usual = priced(settings)
    if usual.fits or not basis.on_gpu or settings.in_parts:
        return usual
    return priced(replace(settings, optimizer=PAGED))  # as the trainer will choose
