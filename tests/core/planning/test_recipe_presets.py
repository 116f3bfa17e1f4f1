from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.memory.formula import predict
from core.models.catalogue import card_for
from core.paths import presets_root
from core.recipe import load_recipe
from core.units import GIB

FILES = sorted((presets_root() / "recipes").glob("*.yaml"))
JOBS = {"chat", "json", "classify", "style", "code", "summarise", "pretrain"}
CLASSES = {8, 12, 16, 24, 48, 80, 141}


def test_every_job_has_every_memory_class() -> None:
    assert {path.stem for path in FILES} == {f"{job}-{size}gb" for job in JOBS for size in CLASSES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_preset_is_a_recipe_that_fits_where_it_says(path: Path) -> None:
    recipe = load_recipe(path)
    training, method = recipe.training, recipe.method
    assert isinstance(training.gradient_checkpointing, bool)
    prediction = predict(
        card_for(recipe.model.id).shape,
        method.name,
        method.rank,
        method.target_modules,
        training.micro_batch,
        recipe.data.max_length,
        training.gradient_checkpointing,
        training.optimizer,
        accumulates=training.gradient_accumulation > 1,
        dropout=method.dropout,
    )
    size = int(path.stem.rsplit("-", 1)[1].removesuffix("gb"))
    assert prediction.high <= size * GIB
    assert training.effective_batch == 16


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_key_says_what_it_means_and_its_default(path: Path) -> None:
    for line in path.read_text().splitlines():
        if re.match(r"\s*\w+: \S", line) and not line.startswith("version"):
            assert "# " in line, line
            assert "default" in line, line
