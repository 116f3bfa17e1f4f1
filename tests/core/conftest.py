"""A tiny model that talks without end, and runs that were trained on it, for all tests below."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.data.prepared import prepare
from core.data.tokenizer import load_tokenizer
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from tests.core.babbler import write_adapter, write_model


@pytest.fixture(scope="session")
def babbler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("babbler") / "model")


@pytest.fixture(scope="session")
def babbler_adapter(babbler: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(babbler, tmp_path_factory.mktemp("babbler-adapter") / "adapter")


def _rows(first: int, count: int) -> str:
    """Questions with JSON answers, none twice."""
    rows = [
        {
            "messages": [
                {
                    "role": "user",
                    "content": f"set lamp {n} to {n * 7 % 100} please" + "!" * (n % 9),
                },
                {"role": "assistant", "content": json.dumps({"lamp": n, "to": n * 7 % 100})},
            ]
        }
        for n in range(first, first + count)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def make_run(tmp_path: Path, babbler: Path, babbler_adapter: Path) -> Callable[..., RunDirectory]:
    """Makes a run whose training has just ended: encoded rows and an adapter, no more."""

    def make(name: str = "run", **sections: Any) -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        run.control.mkdir(parents=True)
        train, held_out = tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"
        train.write_text(_rows(0, 20))
        held_out.write_text(_rows(100, 12))
        data = {"train": [str(train)], "eval": [str(held_out)]}
        tree = {"model": str(babbler), "data": data, "evaluation": {"rows": 10}, **sections}
        recipe = Recipe.model_validate(tree)
        run.recipe.write_text(recipe.to_yaml())
        prepare(recipe, load_tokenizer(babbler), run.data)
        shutil.copytree(babbler_adapter, run.adapter)
        return run

    return make
