from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.paths import presets_root
from core.planning.candidates import Basis
from core.planning.defaults import defaults
from core.planning.presets import candidate_of
from core.recipe import load_recipe

FILES = sorted((presets_root() / "recipes").glob("*.yaml"))
OBJECTIVES = {
    "chat": "sft", "json": "sft", "classify": "sft", "style": "sft", "code": "sft",
    "summarise": "sft", "pretrain": "pretrain", "prefer": "dpo",
}  # fmt: skip
CLASSES = {8, 12, 16, 24, 40, 48, 80, 141}


def test_every_job_has_every_memory_class() -> None:
    wanted = {f"{job}-{size}gb" for job in OBJECTIVES for size in CLASSES}
    assert {path.stem for path in FILES} == wanted


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_preset_is_a_recipe_that_fits_where_it_says(path: Path) -> None:
    """In gigabytes of a thousand millions, at the longest rows that it lets through."""
    recipe = load_recipe(path)
    job, _, size = path.stem.removesuffix("gb").rpartition("-")
    length = recipe.data.max_length
    free = int(size) * 1_000_000_000
    candidate = candidate_of(recipe, Basis(1000, length, length, length, free, on_gpu=True))
    assert isinstance(recipe.training.gradient_checkpointing, bool)
    assert candidate.fits
    assert candidate.prediction.high <= free
    assert recipe.training.effective_batch == 16
    assert recipe.objective.name == OBJECTIVES[job]
    parameters = candidate.model.shape.parameters
    usual = defaults(1000, parameters, recipe.method.name, recipe.objective.name)
    assert recipe.training.learning_rate <= usual.learning_rate


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_says_what_it_means_and_its_default(path: Path) -> None:
    for line in path.read_text().splitlines():
        if re.match(r"\s*\w+: \S", line) and not line.startswith("version"):
            assert "# " in line, line
            assert "default" in line, line
