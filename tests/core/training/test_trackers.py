"""Trackers are told what the run tells, may fail, and never see a key of theirs written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.recipe import Recipe, parse_recipe
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader, EventWriter
from core.secrets import HIDDEN, secrets_in
from core.training import trackers
from core.training.trackers import Guest, check_trackers

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
# Writes what it is told as JSON lines, and fails from a step on if it is told to.
DOUBLE = """
import json, os

class SummaryWriter:
    def __init__(self, log_dir):
        os.makedirs(log_dir, exist_ok=True)
        self._path = os.path.join(log_dir, "scalars.jsonl")

    def add_text(self, tag, text, step=0): pass

    def add_scalar(self, tag, value, step):
        if step >= int(os.environ.get("DOUBLE_FAILS_AT", "1000")):
            raise ConnectionError("the server is away")
        with open(self._path, "a") as file:
            file.write(json.dumps([tag, value, step]) + chr(10))

    def flush(self): pass

    def close(self): pass
"""


def told(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


@pytest.fixture
def tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A double for TensorBoard's writer, found as transformers finds the real one."""
    from transformers.integrations import integration_utils

    (tmp_path / "double").mkdir()
    (tmp_path / "double" / "tensorboardX.py").write_text(DOUBLE)
    monkeypatch.syspath_prepend(tmp_path / "double")
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    for name in ("TENSORBOARD_LOGGING_DIR", "WANDB_DIR", "WANDB_PROJECT", "WANDB_RUN_ID",
                 "WANDB_RESUME", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):  # fmt: skip
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_what_the_run_tells_arrives(
    new_run: NewRun, train_here: TrainHere, tensorboard: None
) -> None:
    run = new_run(training={"max_steps": 4, "eval_steps": 2, "trackers": ["tensorboard"]})
    assert train_here(run) == 0
    lines = (run.path / "trackers" / "tensorboard" / "scalars.jsonl").read_text().splitlines()
    scalars = {(tag, step): value for tag, value, step in map(json.loads, lines)}
    for event in told(run, "log"):
        assert scalars["train/loss", event["step"]] == pytest.approx(event["loss"])
    for event in told(run, "eval"):
        assert scalars["eval/loss", event["step"]] == pytest.approx(event["loss"])
    assert not told(run, "warning")


def test_a_tracker_that_fails_is_left_out(
    new_run: NewRun, train_here: TrainHere, tensorboard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOUBLE_FAILS_AT", "2")
    run = new_run(training={"max_steps": 4, "trackers": ["tensorboard"]})
    assert train_here(run) == 0
    [warning] = told(run, "warning")
    assert warning["code"] == "tracker-failed"
    assert "TensorBoard" in warning["message"]
    assert [event["step"] for event in told(run, "log")] == [1, 2, 3, 4]


def test_a_guest_is_asked_no_more_after_its_first_failure() -> None:
    class Moody:
        def __init__(self) -> None:
            self.asked = 0

        def on_log(self, *arguments: Any) -> None:
            self.asked += 1
            raise ValueError("no")

    moody, failures = Moody(), []
    guest = Guest(moody, lambda name, error: failures.append((name, str(error))))
    for _ in range(3):
        guest.on_log(1, 2, 3)
    assert moody.asked == 1
    assert failures == [("Moody", "no")]


def asked(*names: str) -> Recipe:
    tree = {"model": "m", "data": "d", "training": {"trackers": list(names)}}
    return parse_recipe(tree, "test")


def test_a_tracker_that_is_not_there_is_said_before_loading(
    monkeypatch: pytest.MonkeyPatch, new_run: NewRun, train_here: TrainHere
) -> None:
    check_trackers(asked())
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    for name, packages in trackers.PACKAGES.items():
        with pytest.raises(UserError, match="not installed") as caught:
            check_trackers(asked(name))
        assert f"pip install {packages[0]}" in caught.value.remedy
    run = new_run(training={"trackers": ["mlflow"]})
    assert train_here(run) == 1
    [error] = told(run, "error")
    assert "mlflow" in error["message"]
    assert not told(run, "state")


def test_wandb_needs_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda package: object())
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="no key"):
        check_trackers(asked("wandb"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers(asked("wandb"))
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    check_trackers(asked("wandb"))


def test_keys_are_found_by_their_names() -> None:
    found = secrets_in(
        {
            "WANDB_API_KEY": "0123456789abcdef",
            "HF_TOKEN": "hf_abcdefgh1234",
            "MLFLOW_TRACKING_PASSWORD": "p4ssw0rd!",
            "TOKENIZERS_PARALLELISM": "false0000",
            "SSH_KEY_FILE": "/home/me/.ssh/id",
            "GOOGLE_API_KEY": "short1",
            "PATH": "/usr/bin:/bin:/usr/local",
        }
    )
    assert set(found) == {"0123456789abcdef", "hf_abcdefgh1234", "p4ssw0rd!"}


def test_a_key_gets_neither_into_the_recipe_nor_events_nor_the_log(
    new_run: NewRun, tmp_path: Path
) -> None:
    """In a process of its own, whose environment holds the key from the start."""
    import os
    import subprocess
    import sys

    key = "k3y-0123456789abcdef"
    run = new_run(model=f"/nowhere/{key}", training={"trackers": []})
    assert key in run.recipe.read_text()  # an unlikely place; what is said of it hides it
    done = subprocess.run(
        [sys.executable, "-m", "core.training.worker", str(run.path)],
        env={**os.environ, "WANDB_API_KEY": key, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert key not in done.stdout + done.stderr
    assert HIDDEN in done.stderr
    assert key not in run.events.read_text()
    [error] = told(run, "error")
    assert HIDDEN in error["message"]
    assert EventWriter(run.events).write("log", loss=1.0)["loss"] == 1.0


def test_the_recipe_has_no_place_for_a_key() -> None:
    tree = {"model": "m", "data": "d", "training": {"trackers": ["wandb"], "wandb_api_key": "k"}}
    with pytest.raises(UserError, match="wandb_api_key is not a known key"):
        parse_recipe(tree, "test")
