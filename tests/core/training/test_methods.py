"""The matrix: every method, on every base it is offered on, through the real worker.

Each cell is trained, saved, merged where that is possible, loaded again and measured; each method
is killed once in the middle and resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, get_args

import bitsandbytes
import pytest
import torch
from safetensors.torch import load_file

from core.chat.client import chat_with_run
from core.chat.events import Turn
from core.errors import UserError
from core.evaluation.results import read_results
from core.export.exporting import export
from core.methods import METHODS, Bits, MethodName
from core.recipe import load_recipe
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.training import pissa, trained
from core.training.checkpoints import checkpoints
from core.training.finish import finish
from core.training.reporter import Reporter
from core.training.watch import Watch
from tests.core.training.words import RATES

pytestmark = pytest.mark.usefixtures("old_objects_are_left_alone")
NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
Cell = tuple[MethodName, Bits]
Train = Callable[[MethodName, Bits], RunDirectory]

CELLS: list[Cell] = [(name, bits) for name, method in METHODS.items() for bits in method.bits]
STEPS = 6


class Killed(BaseException):
    """Ends the worker with nothing tidied up."""


def options(name: MethodName, bits: Bits) -> dict[str, Any]:
    method: dict[str, Any] = {"name": name, "bits": bits, "rank": 4, "alpha": 8.0, "layers": 1}
    if "dropout" in METHODS[name].knobs:
        method["dropout"] = 0.1
    training = {"max_steps": STEPS, "eval_steps": STEPS, "save_steps": 3}
    return {
        "method": {**method, "virtual_tokens": 8, "lr_ratio": 4},
        "training": {**training, "learning_rate": RATES.get(name, 2e-2)},
        "evaluation": {"rows": 2, "base": False, "max_new_tokens": 4},
    }


def events(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


def losses(run: RunDirectory) -> list[tuple[int, float]]:
    return [(event["step"], event["loss"]) for event in events(run, "log")]


def result(run: RunDirectory) -> dict[str, Any]:
    """The weights that the training has left."""
    folder = run.adapter if run.adapter.is_dir() else run.merged
    return load_file(next(folder.glob("*.safetensors")))


@pytest.fixture(scope="session")
def finished() -> dict[Cell, RunDirectory]:
    """The run of each cell that was never killed, trained once for all tests."""
    return {}


@pytest.fixture
def train(finished: dict[Cell, RunDirectory], new_run: NewRun, train_here: TrainHere) -> Train:
    def once(name: MethodName, bits: Bits) -> RunDirectory:
        if (name, bits) not in finished:
            run = new_run(**options(name, bits))
            assert train_here(run) == 0
            finished[name, bits] = run
        return finished[name, bits]

    return once


@pytest.mark.parametrize(("name", "bits"), CELLS)
def test_learns_and_answers_as_it_learned(train: Train, name: MethodName, bits: Bits) -> None:
    run = train(name, bits)
    before, after = (event["loss"] for event in events(run, "eval"))
    assert after < before - 0.02
    finish(run, Reporter(run))
    method = METHODS[name]
    assert (run.adapter / "adapter_config.json").is_file() == method.has_adapter
    assert (run.merged / "config.json").is_file() == method.merges
    # What is shipped, loaded by the evaluation, is what the training measured at its end.
    shipped = read_results(run).models["tuned"].loss
    assert shipped == pytest.approx(after, abs=0.01)


@pytest.mark.parametrize("name", METHODS)
def test_killed_and_resumed_it_ends_the_same(
    train: Train,
    new_run: NewRun,
    train_here: TrainHere,
    monkeypatch: pytest.MonkeyPatch,
    name: MethodName,
) -> None:
    bits = METHODS[name].bits[0]
    uninterrupted = train(name, bits)
    run = new_run(**options(name, bits))
    with monkeypatch.context() as patch:
        patch.setattr(Watch, "on_step_begin", die_at(4))
        with pytest.raises(Killed):
            train_here(run)
    assert train_here(run) == 0
    assert dict(losses(run)) == dict(losses(uninterrupted))
    ours, theirs = result(run), result(uninterrupted)
    assert ours.keys() == theirs.keys()
    assert all(bool((ours[key] == theirs[key]).all()) for key in ours)


def die_at(step: int) -> Callable[..., None]:
    def die(self: Watch, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == step:
            raise Killed

    return die


@pytest.mark.parametrize("name", METHODS)
def test_a_base_it_does_not_train_on_is_refused_in_the_recipe(
    make_recipe: Callable[..., Any], name: MethodName
) -> None:
    for bits in set(get_args(Bits)) - set(METHODS[name].bits):
        with pytest.raises(UserError, match=rf"method: .*not of {bits}; leave out method.bits"):
            make_recipe(method={"name": name, "bits": bits})


def test_a_prefix_is_not_computed_twice(make_recipe: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"gradient_checkpointing does not go with prefix tuning"):
        make_recipe(method="prefix", training={"gradient_checkpointing": True})


@pytest.mark.parametrize("name", ["pissa", "adalora", "last-layers", "prompt"])
def test_what_needs_whole_weights_is_not_split(
    make_recipe: Callable[..., Any], name: MethodName
) -> None:
    with pytest.raises(UserError, match=r"hardware.sharding: fsdp does not go with"):
        make_recipe(method=name, hardware={"sharding": "fsdp"})
    make_recipe(method=name, hardware={"sharding": "ddp"})
    make_recipe(method="lora", hardware={"sharding": "fsdp"})
    with pytest.raises(UserError, match="whose states cannot be split"):
        make_recipe(hardware={"sharding": "fsdp"}, training={"optimizer": "adamw-8bit"})


def test_what_the_model_lacks_is_said_before_it_is_loaded(
    new_run: NewRun, train_here: TrainHere
) -> None:
    run = new_run(method={"name": "lora", "target_modules": ["query"]})
    assert train_here(run) == 1
    [error] = events(run, "error")
    assert error["message"] == "method.target_modules: this model has no linear layer query."
    assert "q_proj" in error["remedy"]


def test_adalora_gives_up_the_rank_it_was_to_give_up(train: Train) -> None:
    run = train("adalora", 16)
    pattern = json.loads((run.adapter / "adapter_config.json").read_text())["rank_pattern"]
    assert len(pattern) == 14
    assert sum(map(sum, pattern.values())) == 14 * 4  # it began with 6 a layer
    kept = result(run)
    assert sum(len(kept[name]) for name in kept if name.endswith("lora_E")) == 14 * 4
    # What is shown is the cross entropy alone, though A and B are drawn apart beside it.
    assert losses(run)[0][1] == pytest.approx(losses(train("lora", 16))[0][1], abs=0.01)


def test_adalora_draws_its_matrices_apart(
    new_run: NewRun, train_here: TrainHere, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training import adalora

    monkeypatch.setattr(adalora, "ORTHOGONALITY", 0.0)
    careless = new_run(**options("adalora", 16))
    assert train_here(careless) == 0
    assert distance_from_orthogonal(train("adalora", 16)) < distance_from_orthogonal(careless) / 2


def distance_from_orthogonal(run: RunDirectory) -> float:
    matrices = [value for name, value in result(run).items() if name.endswith("lora_A")]
    squares = [matrix @ matrix.T for matrix in matrices]
    return sum(float((square - square.new_ones(len(square)).diag()).norm()) for square in squares)


def test_pissa_leaves_a_plain_lora_and_needs_no_second_decomposition(
    train: Train, new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train("pissa", 16)
    config = json.loads((run.adapter / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["init_lora_weights"]) == (8, 16.0, True)
    first = load_file(run.checkpoints / pissa.FILE)
    assert all(bool(value.abs().sum() > 0) for value in first.values())
    other = new_run(**options("pissa", 16))
    (other.control / "stop").touch()
    assert train_here(other) == 0
    (other.control / "stop").unlink()
    monkeypatch.setattr(pissa, "DECOMPOSITION", "none on this machine")
    assert train_here(other) == 0
    assert all(bool((value == result(other)[name]).all()) for name, value in result(run).items())


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-8bit", "paged-adamw-8bit", "sgd"])
def test_lora_plus_has_two_rates(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    rates: dict[str, set[str]] = {"A": set(), "B": set()}
    kinds: list[Any] = []

    def look(self: Any, args: Any, state: Any, control: Any, **given: Any) -> None:
        names = {id(weight): name for name, weight in given["model"].named_parameters()}
        kinds.append(given["optimizer"].optimizer)
        for group in given["optimizer"].param_groups:
            for weight in group["params"]:
                rates["A" if "lora_A" in names[id(weight)] else "B"].add(
                    f"{float(group['lr']):.4f}"
                )

    monkeypatch.setattr(Watch, "on_step_begin", look)
    run = new_run(
        method={"name": "lora+", "rank": 4, "lr_ratio": 8},
        training={"max_steps": 1, "learning_rate": 1e-3, "optimizer": optimizer},
    )
    assert train_here(run) == 0
    assert rates == {"A": {"0.0010"}, "B": {"0.0080"}}
    [kind] = kinds
    assert isinstance(kind, bitsandbytes.optim.AdamW) == ("8bit" in optimizer)
    assert getattr(kind, "is_paged", False) == optimizer.startswith("paged")
    assert isinstance(kind, torch.optim.AdamW) == (optimizer == "adamw")


def test_of_the_last_layers_checkpoints_hold_no_others(train: Train, tiny_model: Any) -> None:
    run = train("last-layers", 16)
    whole = load_file(tiny_model / "model.safetensors")
    tuned = result(run)
    changed = [
        name for name in whole if not bool((tuned[name] == whole[name].to(tuned[name])).all())
    ]
    assert changed
    assert all(name.startswith("model.layers.1.") for name in changed)
    [checkpoint] = checkpoints(run)
    assert set(load_file(checkpoint / trained.FILE)) == {
        name for name in whole if name.startswith("model.layers.1.")
    }
    assert not (checkpoint / "model.safetensors").exists()


def test_one_sentence_where_nothing_can_be_merged(train: Train, tmp_path: Any) -> None:
    run = train("prompt", 16)
    [warning] = events(run, "warning")
    assert warning["code"] == "not-mergeable"
    assert warning["message"].startswith("prompt tuning cannot be merged into the model: ")
    with pytest.raises(UserError, match="prompt tuning cannot be merged") as raised:
        export(run, "merged", tmp_path / "out")
    assert str(run.adapter) in raised.value.remedy
    assert not (tmp_path / "out").exists()
    stages = [event["stage"] for event in events(run, "state") if "stage" in event]
    assert "merging" not in stages


def test_chat_speaks_with_what_cannot_be_merged(train: Train) -> None:
    run = train("prefix", 4)
    client = chat_with_run(run, compare=True)
    try:
        assert [each.stage for each in client.load()][-1] == "ready"
        said = list(client.generate([{"role": "user", "content": "3 red"}], max_new_tokens=4))
    finally:
        client.close()
    turns = [event for event in said if isinstance(event, Turn)]
    assert {turn.who for turn in turns} == {"tuned", "base"}
    assert load_recipe(run.recipe).method.base_bits == 4
