"""What tests on every layer share: the tiny model, and a home of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tiny import make_tiny_model, write_rows

# One thread each: the machine's cores are shared with the children that the tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random Llama."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with 96 conversations."""
    return write_rows(tmp_path_factory.mktemp("tiny-rows") / "rows.jsonl", 96)


@pytest.fixture
def tunedeck_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty TUNEDECK_HOME for what runs in this process and its children."""
    home = tmp_path / "home"
    monkeypatch.setenv("TUNEDECK_HOME", str(home))
    return home
