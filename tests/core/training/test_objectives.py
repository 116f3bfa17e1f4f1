"""Every objective trains for real: with an adapter, on a 4-bit base, and with all weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from core.data.encoding import IGNORED
from core.data.prepared import load_prepared
from core.data.training_rows import TokenRow
from core.methods import METHODS
from core.recipe import ObjectiveSection, parse_recipe
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.training.adapters import with_adapter
from core.training.batches import collate
from core.training.loading import load_base
from core.training.modes import measuring
from core.training.objective import answer_logs, objective_loss
from core.training.reference import needs_reference
from tests.core.training.words import make_judged, make_pairs, make_rows, make_texts

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
MAKERS = {
    "sft": make_rows,
    "pretrain": make_texts,
    "dpo": make_pairs,
    "kto": make_judged,
    "orpo": make_pairs,
}
OPTIONS: dict[str, Any] = {"epochs": 2, "eval_steps": 14, "save_steps": 14}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("objectives")
    return {name: make(folder / f"{name}.jsonl") for name, make in MAKERS.items()}


def events(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


def train(
    new_run: NewRun, train_here: TrainHere, data: dict[str, Path], objective: str, **sections: Any
) -> RunDirectory:
    sections["training"] = {**OPTIONS, **sections.get("training", {})}
    run = new_run(objective=objective, data={"train": [str(data[objective])]}, **sections)
    assert train_here(run) == 0, events(run, "error")
    return run


@pytest.mark.parametrize("objective", ["pretrain", "dpo", "kto", "orpo"])
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_lowers_its_held_out_loss(
    new_run: NewRun,
    train_here: TrainHere,
    data: dict[str, Path],
    method: str,
    objective: str,
) -> None:
    rate = 1e-2 if method == "full" else 3e-2
    run = train(
        new_run, train_here, data, objective, method=method, training={"learning_rate": rate}
    )
    evaluations = events(run, "eval")
    assert evaluations[-1]["loss"] < evaluations[0]["loss"] - 0.01
    assert (run.merged if method == "full" else run.adapter).is_dir()
    logs = events(run, "log")
    if objective == "pretrain":
        assert "perplexity" in evaluations[0]
        assert "margin" not in logs[0]
        return
    assert "perplexity" not in evaluations[0]
    assert evaluations[-1]["margin"] > evaluations[0]["margin"] + 0.01
    assert evaluations[-1]["accuracy"] >= 0.7
    assert {"rewards_chosen", "rewards_rejected", "margin", "accuracy"} <= set(evaluations[0])
    assert ("kl" in evaluations[0]) == (objective == "kto")


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_the_reference_is_the_model_before(
    new_run: NewRun, train_here: TrainHere, data: dict[str, Path], objective: str
) -> None:
    """Nothing has moved at step 0: no reward, and the loss that follows from that."""
    found = []
    for method in ("lora", "full", "pissa"):
        run = train(new_run, train_here, data, objective, method=method, training={"max_steps": 1})
        start = events(run, "eval")[0]
        assert start["rewards_chosen"] == pytest.approx(0, abs=0.02)
        assert start["rewards_rejected"] == pytest.approx(0, abs=0.02)
        found.append(start["loss"])
        assert (run.data / "reference.json").is_file() == (method != "lora")
    assert found == pytest.approx([found[0]] * 3, abs=0.02)
    if objective == "dpo":
        assert found[0] == pytest.approx(0.6931, abs=0.01)


def test_all_of_a_long_text_is_trained_once(
    new_run: NewRun, train_here: TrainHere, data: dict[str, Path]
) -> None:
    runs = [
        new_run(
            objective="pretrain",
            data={"train": [str(data["pretrain"])], "max_length": length},
            training={"max_steps": 1},
        )
        for length in (16, 500)
    ]
    for run in runs:
        assert train_here(run) == 0
    ledgers = [json.loads((run.data / "ledger.json").read_text()) for run in runs]
    assert ledgers[0]["trained_tokens"] == ledgers[1]["trained_tokens"]
    assert ledgers[0]["reasons"] == ledgers[1]["reasons"] == {"usable": 40}
    assert ledgers[0]["longest"] == 16
    pieces, wholes = (load_prepared(run.data) for run in runs)
    assert len(pieces.train) > 2 * len(wholes.train)
    for row in wholes.train:
        parts = [part for part in pieces.train if part.number == row.number]
        trained = [label for part in parts for label in part.labels if label != IGNORED]
        assert trained == [label for label in row.labels if label != IGNORED]
        borders = [(one.input_ids[-1], other.input_ids[0]) for one, other in pairwise(parts)]
        assert all(last == first for last, first in borders)


@pytest.mark.parametrize(
    ("objective", "rows", "needs"),
    [
        ("dpo", "sft", "DPO needs rows with a prompt, a chosen and a rejected answer"),
        ("orpo", "kto", "ORPO needs rows with a prompt, a chosen and a rejected answer"),
        ("kto", "pretrain", "KTO needs rows with a prompt, a completion and a label"),
        ("pretrain", "dpo", "continued pre-training needs texts or conversations"),
    ],
)
def test_the_wrong_rows_are_refused_before_loading(
    new_run: NewRun,
    train_here: TrainHere,
    data: dict[str, Path],
    objective: str,
    rows: str,
    needs: str,
) -> None:
    run = new_run(objective=objective, data={"train": [str(data[rows])]})
    assert train_here(run) == 1
    [error] = events(run, "error")
    assert error["message"].startswith(needs)
    assert "Set objective to" in error["remedy"]
    assert "importing" not in [event["stage"] for event in events(run, "state")]


def test_kto_without_bad_answers_is_refused(
    new_run: NewRun, train_here: TrainHere, tmp_path: Path
) -> None:
    rows = [{"prompt": f"say {n}", "completion": f"{n}", "label": True} for n in range(20)]
    file = tmp_path / "good.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = new_run(objective="kto", data={"train": [str(file)]})
    assert train_here(run) == 1
    [error] = events(run, "error")
    assert "needs good and bad answers" in error["message"]


@pytest.mark.parametrize(("method", "objective"), [("lora", "kto"), ("full", "dpo")])
def test_a_resumed_run_ends_as_one_that_never_stopped(
    new_run: NewRun, train_here: TrainHere, data: dict[str, Path], method: str, objective: str
) -> None:
    sections = {"method": method, "training": {"epochs": 1, "save_steps": 2, "seed": 3}}
    whole = train(new_run, train_here, data, objective, **sections)
    cut = new_run(
        objective=objective,
        data={"train": [str(data[objective])]},
        method=method,
        training={**OPTIONS, **sections["training"]},
    )
    (cut.control / "stop").touch()
    assert train_here(cut) == 0
    (cut.control / "stop").unlink()
    assert train_here(cut) == 0
    curves = [[(e["step"], e["loss"]) for e in events(run, "log")] for run in (whole, cut)]
    assert curves[0] == curves[1]
    name = "merged/model.safetensors" if method == "full" else "adapter/adapter_model.safetensors"
    ours, theirs = (load_file(run.path / name) for run in (whole, cut))
    assert all(bool((ours[key] == theirs[key]).all()) for key in ours)


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_how_a_step_is_divided_changes_nothing(
    new_run: NewRun, train_here: TrainHere, data: dict[str, Path], objective: str
) -> None:
    curves = []
    for size in (8, 2):
        sizes = {"micro_batch": size, "gradient_accumulation": 8 // size, "max_steps": 4}
        run = train(new_run, train_here, data, objective, training=sizes)
        curves.append([event["loss"] for event in events(run, "log")])
    assert curves[0] == pytest.approx(curves[1], abs=0.01)


IGN = IGNORED
QUICK = {
    "pretrain": [TokenRow(0, [5, 6, 7, 8], [5, 6, 7, 8])],
    "dpo": [TokenRow(0, [5, 6, 7], [IGN, IGN, 7], [5, 6, 8, 9], [IGN, IGN, 8, 9])],
    "kto": [
        TokenRow(0, [5, 6, 7], [IGN, IGN, 7], [5, 6, 9], [IGN, IGN, 9], desirable=True),
        TokenRow(1, [4, 9], [IGN, 9], [4, 7], [IGN, 7], desirable=False),
    ],
    "orpo": [TokenRow(0, [5, 6, 7], [IGN, IGN, 7], [5, 6, 8, 9], [IGN, IGN, 8, 9])],
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_can_learn_every_objective(tiny_model: Path, method: str) -> None:
    """A step by hand: it starts at the reference, and what is trained gets a gradient."""
    tree = {"model": str(tiny_model), "data": "x", "method": {"name": method, "rank": 4}}
    recipe = parse_recipe(tree, "test")
    model = with_adapter(load_base(tiny_model, recipe), recipe.method, 20).train()
    for objective, rows in QUICK.items():
        recipe.objective = ObjectiveSection(name=objective)
        given = rows
        if needs_reference(recipe):
            given = [replace(row, reference=both_logs(model, row)) for row in rows]
        loss = objective_loss(recipe.objective, given)
        batch = collate(given, pad=0)
        loss.begin(model, [batch])
        model.zero_grad()
        loss.loss_sum(model, batch).backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad and p.grad is not None]
        assert sum(float(gradient.float().abs().sum()) for gradient in gradients) > 0, objective
        told = loss.measures.take()
        if recipe.objective.spec.is_compared and recipe.method.spec.kind != "soft-prompt":
            assert told["rewards_chosen"] == pytest.approx(0, abs=0.02)


def both_logs(model: Any, row: TokenRow) -> list[float]:
    batch = collate([row], pad=0)
    with measuring(model):
        logs: list[float] = answer_logs(model, batch["input_ids"], batch["labels"]).tolist()
    return logs
