"""The best weights beyond noise become the result, and what only gets worse ends."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
from safetensors.torch import load_file

from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.runs.state import stored_state
from core.training.best import Evaluation, Judge, read_judge, stops_early
from core.training.checkpoints import checkpoints
from core.training.watch import Watch

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
ROWS = 20


def evaluation(step: int, loss: float, spread: float = 0.0) -> Evaluation:
    """Twenty rows of ten tokens; every other row is `spread` nats above or below."""
    sums = [10 * (loss + spread * (-1) ** row) for row in range(ROWS)]
    return Evaluation(step, sums, [10] * ROWS)


def test_noise_is_that_of_paired_rows() -> None:
    """A difference that all rows share has none; one that varies has what resampling shows."""
    assert evaluation(1, 2.0).noise(evaluation(2, 1.0)) == pytest.approx(0, abs=1e-9)
    draw = random.Random(1)
    tokens = [draw.randint(5, 50) for _ in range(200)]
    first = Evaluation(1, [draw.gauss(2, 0.5) * n for n in tokens], tokens)
    second = Evaluation(2, [s + draw.gauss(0, 1) * n for s, n in zip(first.sums, tokens)], tokens)  # noqa: B905
    gaps = []
    for _ in range(400):
        rows = [draw.randrange(200) for _ in range(200)]
        weight = sum(tokens[row] for row in rows)
        gaps.append(sum(first.sums[row] - second.sums[row] for row in rows) / weight)
    assert first.noise(second) == pytest.approx(stdev(gaps), rel=0.15)


def test_few_or_other_rows_say_nothing() -> None:
    few = Evaluation(1, [1.0] * 3, [1] * 3)
    assert few.noise(Evaluation(2, [2.0] * 3, [1] * 3)) == math.inf
    assert evaluation(1, 1.0).noise(Evaluation(2, [1.0] * ROWS, [9] * ROWS)) == math.inf


def test_only_a_clear_gap_counts() -> None:
    judge = Judge()
    assert judge.judge(evaluation(1, 2.0)) == "best"
    assert judge.judge(evaluation(2, 1.5)) == "best"
    assert judge.judge(evaluation(3, 1.45, spread=0.9)) == "same"
    assert judge.judge(evaluation(4, 1.6)) == "worse"
    assert judge.judge(evaluation(5, 1.7)) == "worse"
    assert judge.judge(evaluation(6, math.nan)) == "worse"
    assert (judge.best and judge.best.step, judge.worse_in_a_row) == (2, 3)
    assert judge.earlier_is_better()
    assert judge.judge(evaluation(7, 1.5)) == "same"
    assert judge.worse_in_a_row == 0
    assert not judge.earlier_is_better()


def test_a_lost_checkpoint_gives_way_to_the_one_before() -> None:
    judge = Judge()
    judge.judge(evaluation(1, 2.0))
    judge.judge(evaluation(2, 1.0))
    judge.lost(7)
    assert judge.best is not None
    assert judge.best.step == 2
    judge.lost(2)
    assert judge.best.step == 1


def test_it_is_kept_in_the_checkpoint(tmp_path: Path) -> None:
    folders = [tmp_path / f"checkpoint-{step}" for step in (1, 2)]
    judge = Judge()
    for step, folder in enumerate(folders, 1):
        folder.mkdir()
        judge.judge(evaluation(step, 1.0 + step))
        judge.write(folder)
    assert read_judge(folders[1]) == judge
    shutil.rmtree(folders[0])
    assert read_judge(folders[1]) == Judge()
    assert read_judge(tmp_path / "checkpoint-9") == Judge()


def test_small_data_is_watched() -> None:
    assert stops_early("auto", 500)
    assert not stops_early("auto", 50_000)
    assert stops_early(True, 50_000)
    assert not stops_early(False, 500)


@pytest.fixture(scope="module")
def by_heart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers that do not follow from the question: all that can be learned is these rows."""
    draw = random.Random(3)
    lines = []
    for number in range(60):
        answer = " ".join(str(draw.randrange(100)) for _ in range(4))
        messages = [
            {"role": "user", "content": f"{number}?"},
            {"role": "assistant", "content": answer},
        ]
        lines.append(json.dumps({"messages": messages}))
    path = tmp_path_factory.mktemp("by-heart") / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def told(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


def adapter(folder: Path) -> dict[str, Any]:
    return dict(load_file(folder / "adapter_model.safetensors"))


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(bool((ours[k] == theirs[k]).all()) for k in ours)


class Killed(BaseException):
    pass


def test_learning_by_heart_is_ended_and_the_best_is_the_result(
    new_run: NewRun, train_here: TrainHere, by_heart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a run that is killed on its worst way down ends with the same weights."""
    options: dict[str, Any] = {
        "data": {"train": [str(by_heart)], "eval_fraction": 0.3},
        "training": {
            "epochs": 40,
            "learning_rate": 4e-2,
            "eval_steps": 4,
            "save_steps": 4,
            "early_stopping": True,
            "patience": 2,
            "keep_checkpoints": 1,
        },
    }
    run = new_run(**options)
    assert train_here(run) == 0
    [choice] = told(run, "choice")
    assert choice["stopped_early"]
    assert choice["step"] == choice["best_step"] <= choice["last_step"] - 8
    assert choice["best_loss"] < choice["last_loss"] - choice["noise"]
    assert stored_state(run).eval_loss == choice["best_loss"]
    [warning] = [event for event in told(run, "warning") if event["code"] == "early-stopping"]
    assert f"step {choice['step']}" in warning["message"]
    names = [path.name for path in checkpoints(run)]
    assert names == [f"checkpoint-{choice['step']}", f"checkpoint-{choice['last_step']}"]
    assert same(adapter(run.adapter), adapter(run.checkpoints / names[0]))
    assert not same(adapter(run.adapter), adapter(run.checkpoints / names[1]))

    again = new_run(**options)
    kill_at(monkeypatch, choice["last_step"] - 1)
    with pytest.raises(Killed):
        train_here(again)
    monkeypatch.setattr(Watch, "tell_choice", killed)
    with pytest.raises(Killed):
        train_here(again)
    monkeypatch.undo()
    monkeypatch.setenv("TUNEDECK_HOME", str(run.path.parent.parent))
    assert train_here(again) == 0
    assert same(adapter(run.adapter), adapter(again.adapter))


def killed(*arguments: Any) -> None:
    raise Killed


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    original = Watch.on_step_begin

    def die(self: Watch, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == step:
            monkeypatch.setattr(Watch, "on_step_begin", original)
            raise Killed
        original(self, args, state, control, **rest)

    monkeypatch.setattr(Watch, "on_step_begin", die)


def test_a_checkpoint_after_so_many_minutes(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten seconds pass at every look at the clock: a minute is over at every other step."""
    from core.training import watch

    class Clock:
        now = 0.0

        @classmethod
        def monotonic(cls) -> float:
            cls.now += 10.0
            return cls.now

    monkeypatch.setattr(watch, "time", Clock)
    run = new_run(training={"epochs": 1, "save_steps": 100, "eval_steps": 100, "save_minutes": 1})
    assert train_here(run) == 0
    assert [event["step"] for event in told(run, "checkpoint")] == [2, 4, 6]
