"""Two processes that train one model (gloo, on the CPU): the same training as one process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.children import command
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader

NewRun = Callable[..., RunDirectory]
TOGETHER = {"gpu": "cpu", "gpus": 2}
# fp32, so that only the order of additions differs; the last batch of an epoch is incomplete.
OPTIONS: dict[str, Any] = {
    "model": {"precision": "fp32"},
    "method": {"rank": 4},
    "training": {"epochs": 1, "eval_steps": 4, "save_steps": 3},
}


def told(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


def work(run: RunDirectory, seconds: float = 240) -> int:
    """The training stage as the keeper starts it."""
    with run.log.open("ab") as log:
        stage = subprocess.run(
            command("core.training.worker", str(run.path)),
            stdout=log, stderr=log, timeout=seconds, check=False,
        )
    return stage.returncode


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))


def test_x(new_run: NewRun, tiny_model: Path) -> None:
    options = {**OPTIONS, "model": {"id": str(tiny_model), "precision": "fp32"}}
    one, two = new_run(**options), new_run(**options, hardware={**TOGETHER, "sharding": "fsdp"})
    assert work(two) == 0, two.log.read_text()[-6000:] + (two.data/"rank-1.log").read_text()[-4000:]
    assert work(one) == 0
    print(two.log.read_text()[-3000:])
    for k in ("log", "eval", "checkpoint", "warning"):
        for a, b in zip(told(one, k), told(two, k), strict=True):
            print(a); print(b)
    import os
    os.system(f"find {two.path} | sort; cat {two.path}/state.json {two.data}/*.log")
    assert 0
