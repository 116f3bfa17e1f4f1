"""Rows, recipes, and trainings that run in the test's own process."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.recipe import Recipe, parse_recipe
from core.runs.directory import RunDirectory, create_run
from tests.core.training.words import make_rows

Trainer = Callable[[RunDirectory], int]


@pytest.fixture(scope="module")
def old_objects_are_left_alone() -> Iterator[None]:
    """Every evaluation collects garbage, which takes long in a process with all these tests."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl")


@pytest.fixture(scope="session")
def session_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def home(session_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEDECK_HOME", str(session_home))
    return session_home


@pytest.fixture
def make_recipe(tiny_model: Path, rows_file: Path) -> Callable[..., Recipe]:
    def make(**sections: Any) -> Recipe:
        training = {
            "micro_batch": 4,
            "gradient_accumulation": 2,
            "epochs": 2,
            "learning_rate": 2e-2,
            "eval_steps": 5,
            "save_steps": 3,
            "warmup": 0.0,
            "early_stopping": False,
        }
        tree = {
            "model": str(tiny_model),
            "data": {"train": [str(rows_file)]},
            **sections,
            "training": {**training, **sections.get("training", {})},
        }
        return parse_recipe(tree, "test")

    return make


@pytest.fixture
def new_run(home: Path, make_recipe: Callable[..., Recipe]) -> Callable[..., RunDirectory]:
    return lambda **sections: create_run(make_recipe(**sections))


@pytest.fixture
def train_here(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trainer]:
    """Run the training stage in this process; signal handlers and environment are put back."""
    from core.training.worker import main

    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "PYTORCH_ALLOC_CONF"):
        monkeypatch.setenv(name, "")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield lambda run: main([str(run.path)])
    for number, handler in handlers.items():
        signal.signal(number, handler)
