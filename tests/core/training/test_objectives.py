"""What is particular to an objective: its reference, its texts, its curve, its result."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from core.data.encoding import IGNORED
from core.data.prepared import load_prepared
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.training import finish
from core.training.trainer import Tuner
from tests.core.training.words import WORDS, make_judged, make_pairs, make_texts

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
MAKERS = {
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


@pytest.mark.parametrize("objective", ["dpo", "kto", "orpo"])
def test_the_fused_head_of_trl_gives_the_same_curve(
    new_run: NewRun,
    train_here: TrainHere,
    data: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    objective: str,
) -> None:
    """On a GPU that head computes what would be too large at once; here it is made to."""
    curves = []
    for wanted in (False, True):
        monkeypatch.setattr(Tuner, "_wants_fused_head", lambda self, labels, to=wanted: to)
        run = train(new_run, train_here, data, objective, training={"max_steps": 2})
        curves.append([event["loss"] for event in events(run, "log")])
    assert curves[0] == pytest.approx(curves[1], abs=0.01)


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_its_result_is_merged_and_measured_on_good_answers(
    new_run: NewRun,
    train_here: TrainHere,
    data: dict[str, Path],
    objective: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The final evaluation takes its loss on the answers to prefer, and asks for these."""
    monkeypatch.setattr(finish, "raise_when_asked_to_end", lambda: None)  # it is this process
    sections = {"training": {"max_steps": 2}, "evaluation": {"rows": 3, "max_new_tokens": 4}}
    run = train(new_run, train_here, data, objective, **sections)
    assert finish.main([str(run.path)]) == 0, events(run, "error")
    assert (run.merged / "config.json").is_file()
    prepared = load_prepared(run.data)
    good = [row for row in prepared.eval if row.desirable is not False]
    for result in events(run, "result"):
        assert result["loss_rows"] == len(good)
        assert result["loss"] > 0
        assert result["rows"] == 3
    assert {result["model"] for result in events(run, "result")} == {"base", "tuned"}
    references = {row.reference for row in prepared.held_out}
    assert references <= set(WORDS[6:])  # the colours, which are the good answers
