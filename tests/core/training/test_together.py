"""Two processes that train one model (gloo, on the CPU): the same training as one process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.recipe import MethodSection, load_recipe, parse_recipe
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.runs.history import RunHistory
from core.runs.nodes import Node
from core.runs.state import stored_state
from core.training import launch, trainer
from core.training.checkpoints import checkpoints, is_whole
from core.training.launch import launch_command, train_together
from core.training.loading import load_base
from core.training.loss import labelled_loss_sum
from core.training.modes import measuring
from core.training.reporter import Reporter
from core.training.result import _save_weights
from core.training.together import Crew
from core.training.trainer import Tuner
from tests.core.training.words import make_judged, make_pairs

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
TOGETHER = {"gpu": "cpu", "gpus": 2}
SECONDS = 300.0
FAR = {"gpu": "cpu", "nodes": 2}
PREFERENCES = {"dpo": make_pairs, "kto": make_judged, "orpo": make_pairs}


def told(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


def curves(run: RunDirectory) -> tuple[dict[int, float], dict[int, float]]:
    """Loss and held-out loss by step; one that is stopped at once does not measure the base."""
    history = RunHistory()
    history.update(EventReader(run.events).read())
    return dict(history.loss), {step: loss for step, loss in history.eval_loss if step}


def tokens(run: RunDirectory) -> dict[int, int]:
    return {event["step"]: event["tokens"] for event in told(run, "log")}


def assert_same(run: RunDirectory, other: RunDirectory, checkpoint: str | None = None) -> None:
    """The same curves, and the result; or the result is what that checkpoint of the other was."""
    for ours, theirs in zip(curves(run), curves(other), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    name = "adapter_model.safetensors"
    place = other.checkpoints / checkpoint if checkpoint else other.adapter
    mine, yours = load_file(run.adapter / name), load_file(place / name)
    assert mine.keys() == yours.keys()
    assert all(bool((mine[key] - yours[key]).abs().max() < 1e-3) for key in mine)


@pytest.fixture
def options(tiny_model: Path) -> dict[str, Any]:
    """In fp32, so that only the order of additions differs. Epochs end with an odd batch."""
    return {
        "model": {"id": str(tiny_model), "precision": "fp32"},
        "method": {"rank": 4},
        "training": {"epochs": 1, "eval_steps": 4, "save_steps": 3, "micro_batch": 4},
    }


@pytest.fixture(scope="session")
def trained() -> dict[str, RunDirectory]:
    return {}


@pytest.fixture
def alone(
    trained: dict[str, RunDirectory],
    new_run: NewRun,
    options: dict[str, Any],
    train_here: TrainHere,
) -> RunDirectory:
    """One process, which all the others are compared with."""
    if "alone" not in trained:
        training = {**options["training"], "save_steps": 4}  # where it evaluates as well
        trained["alone"] = new_run(**{**options, "training": training})
        assert train_here(trained["alone"]) == 0
    return trained["alone"]


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The next ranks misbehave so (see odd_rank)."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setattr(launch, "RANK_MODULE", "tests.core.training.odd_rank")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")

    def set_odd(**ways: Any) -> None:
        monkeypatch.setenv("TUNEDECK_TEST_RANK", json.dumps(ways))

    set_odd()
    return set_odd


def waiting(run: RunDirectory) -> dict[int, int]:
    """Rank and pid of the two that wait."""
    deadline = time.monotonic() + SECONDS
    while len(found := list(run.path.glob("waiting-*"))) < 2:
        assert time.monotonic() < deadline, run.log.read_text() if run.log.exists() else ""
        time.sleep(0.05)
    return {int(path.name[-1]): int(path.read_text()) for path in found}


def with_hardware(run: RunDirectory, **hardware: Any) -> None:
    recipe = load_recipe(run.recipe)
    changes = [f"hardware.{key}={json.dumps(value)}" for key, value in hardware.items()]
    run.recipe.write_text(recipe.with_changes(changes).to_yaml())


def at_the_gate(run: RunDirectory, act: Callable[[dict[int, int]], None]) -> Thread:
    """Once both wait, `act` (by rank, their pids) and let them go."""

    def task() -> None:
        found = waiting(run)
        act(found)
        for path in run.path.glob("waiting-*"):
            path.unlink()
        (run.path / "go").touch()

    (run.path / "go").unlink(missing_ok=True)
    thread = Thread(target=task, daemon=True)
    thread.start()
    return thread


def ask_to_stop(run: RunDirectory) -> None:
    """SIGTERM to the launcher, which is this process; both must know before the step begins."""
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + SECONDS
    while not (run.control / "stop").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_killed_short_of_memory_stopped_and_ended_by_one_process(
    alone: RunDirectory,
    new_run: NewRun,
    options: dict[str, Any],
    odd: Callable[..., None],
    train_here: TrainHere,
) -> None:
    """And through all that the losses, and the adapter, of a process that had no such troubles."""
    run = new_run(**options, hardware=TOGETHER)
    odd(wait=5)
    killer = at_the_gate(run, lambda pids: os.kill(pids[1], signal.SIGKILL))
    with run.log.open("ab") as log:
        assert printing_to(log.fileno(), lambda: train_here(run)) == 1
    killer.join()
    [error] = told(run, "error")
    assert "Process 2 of 2" in error["message"], error
    assert "SIGKILL" in error["message"]
    assert [path.name for path in checkpoints(run)] == ["checkpoint-3"]
    assert is_whole(checkpoints(run)[-1])

    odd(greedy=[1, 5, 2], wait=6)  # from step 5 on process 2 cannot take four rows at a time
    stopper = at_the_gate(run, lambda pids: ask_to_stop(run))
    assert train_here(run) == 0
    stopper.join()
    [warning] = told(run, "warning")
    assert warning["code"] == "out-of-memory-recovered"
    assert "Process 2 of 2" in warning["message"]
    training = load_recipe(run.recipe).training
    assert (training.micro_batch, training.gradient_accumulation) == (2, 4)
    state = stored_state(run)
    assert (state.phase, state.step) == ("stopping", 6)
    assert checkpoints(run)[-1].name == "checkpoint-6"
    assert not run.adapter.exists()

    (run.control / "stop").unlink()
    with_hardware(run, gpus=1)
    assert train_here(run) == 0
    assert_same(run, alone)
    assert tokens(run) == tokens(alone)


def printing_to(descriptor: int, task: Callable[[], int]) -> int:
    """What the task and its children print goes to the descriptor, as the keeper has it."""
    kept = [(number, os.dup(number)) for number in (1, 2)]
    try:
        for number, _ in kept:
            os.dup2(descriptor, number)
        return task()
    finally:
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)


def test_each_holds_a_part_of_the_model(
    alone: RunDirectory,
    new_run: NewRun,
    options: dict[str, Any],
    odd: Callable[..., None],
    train_here: TrainHere,
) -> None:
    """FSDP2, stopped and resumed; its result, which is not of the last step; and what one process
    makes of such a checkpoint."""
    options["training"] |= {"gradient_checkpointing": True, "save_steps": 4}
    run = new_run(**options, hardware={**TOGETHER, "sharding": "fsdp"})
    shutil.copytree(alone.data, run.data)
    odd(cpu_parts="fsdp", probe=True, first_is_best=True, then=[str(run.path)])
    (run.control / "stop").touch()
    recipe, reporter = load_recipe(run.recipe), Reporter(run)
    assert train_together(run, recipe, Crew(2), None, reporter) is None
    assert started_at(run) == [0, 1]
    assert len(told(run, "probe")) == 2
    assert (checkpoints(run)[-1] / "pytorch_model_fsdp.bin").is_file()
    assert_same(run, alone, "checkpoint-4")

    shutil.rmtree(run.adapter)
    with_hardware(run, gpus=1)
    assert train_here(run) == 1
    [error] = told(run, "error")
    assert "hardware.sharding: fsdp → ddp" in error["message"]


def started_at(run: RunDirectory) -> list[int]:
    """The step that each life of the run began after."""
    return [
        event["step"]
        for event in told(run, "state")
        if event.get("stage") == "training" and "step" in event
    ]


def test_what_deepspeed_wants_done_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen with the real one (tests/bench/in_parts.py), which not everybody has installed."""
    nothing = SimpleNamespace(get_state_dict=lambda engine: None)  # in all but the first process
    stand: Any = SimpleNamespace(
        is_deepspeed_enabled=True, holds_parts=True, accelerator=nothing, model_wrapped="engine"
    )
    assert Tuner.whole_weights(stand) == {}
    monkeypatch.setattr(trainer, "should_probe", lambda: True)
    assert not Tuner._can_probe(stand)
    loaded: list[Any] = []
    monkeypatch.setattr(trainer, "deepspeed_load_checkpoint", lambda *given: loaded.append(given))
    for method in ("lora", "full"):
        stand._method = MethodSection(name=method)
        Tuner.take_weights(stand, Path("c"))
    assert loaded == [("engine", "c", False), ("engine", "c", True)]  # adapters come alone


def test_a_tied_weight_is_saved_once(tiny_model: Path, tmp_path: Path) -> None:
    """Put together from parts it comes under both its names, and as two tensors."""
    tree = {"model": str(tiny_model), "method": "full", "data": "d"}
    recipe = parse_recipe(tree, "test")
    model = load_base(tiny_model, recipe)
    whole = {name: value.clone() for name, value in model.state_dict().items()}
    _save_weights(RunDirectory(tmp_path), recipe, model, tmp_path / "merged", whole)
    saved, base = (load_file(at / "model.safetensors") for at in (tmp_path / "merged", tiny_model))
    assert saved.keys() == base.keys() < whole.keys()


def test_packed_bits_that_fsdp_can_split(tiny_model: Path) -> None:
    """It splits floating-point tensors alone, and all of one type: the same bits, called so."""
    sections = {"model": {"id": str(tiny_model), "precision": "bf16"}, "method": "qlora"}
    recipe = parse_recipe({**sections, "data": "d"}, "test")
    ids = torch.arange(20).view(2, 10)
    losses = []
    for sharded, kinds in ((False, {torch.bfloat16, torch.uint8}), (True, {torch.bfloat16})):
        model = load_base(tiny_model, recipe, sharded=sharded)
        assert {weight.dtype for weight in model.parameters()} == kinds
        with measuring(model):
            losses.append(float(labelled_loss_sum(model, ids, ids)))
    assert losses[0] == losses[1] > 0


def test_two_machines_learn_preferences_as_one_process_does(
    new_run: NewRun,
    options: dict[str, Any],
    odd: Callable[..., None],
    train_here: TrainHere,
    tmp_path: Path,
) -> None:
    """The last step has five rows: one process has a whole micro-batch of rows that only fill up.
    Ten held-out rows, two at a time, are five batches: one process has a sixth, to fill up.

    Each machine has run directories of its own, and both end with the result.
    """
    options["training"] |= {"micro_batch": 2, "gradient_accumulation": 4, "eval_steps": 2}
    made = []
    for objective, make in PREFERENCES.items():
        files = [make(tmp_path / f"{objective}-{count}.jsonl", count, count) for count in (21, 10)]
        data = {"train": [str(files[0])], "eval": [str(files[1])]}
        sections = {**options, "objective": objective, "data": data}
        alone, *machines = [new_run(**sections, hardware=each) for each in ({}, FAR, FAR)]
        assert train_here(alone) == 0, told(alone, "error")
        for run in machines:
            shutil.copytree(alone.data, run.data)
        made.append((alone, *machines))
    _, *machines = zip(*made, strict=True)
    train_on_two_machines(odd, *machines)
    for alone, *both in made:
        for run in both:
            assert [event["step"] for event in told(run, "log")] == [1, 2, 3]
            assert_same(run, alone)
            found, expected = measures(run), measures(alone)
            assert found == [pytest.approx(each, rel=1e-3, abs=1e-5) for each in expected]


def train_on_two_machines(
    odd: Callable[..., None], main: Sequence[RunDirectory], other: Sequence[RunDirectory]
) -> None:
    """The same runs in turn, by one process each; both machines are this one."""
    recipe, address = load_recipe(other[0].recipe), f"127.0.0.1:{free_port()}"
    odd(then=[str(run.path) for run in other[1:]])
    there = subprocess.Popen(launch_command(other[0], recipe, Crew(1), Node(1, address)))
    odd(then=[str(run.path) for run in main[1:]])
    assert train_together(main[0], recipe, Crew(1), Node(0, address), Reporter(main[0])) is None
    assert there.wait(SECONDS) == 0


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def measures(run: RunDirectory) -> list[dict[str, float]]:
    """What is told beside the losses."""
    names = ("rewards_chosen", "rewards_rejected", "margin", "accuracy", "kl")
    return [
        {name: event[name] for name in names if name in event}
        for kind in ("log", "eval")
        for event in told(run, kind)
    ]
