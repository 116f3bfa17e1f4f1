"""A trial proves the set-up in a few steps, and foretells the run it is a trial for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from core.data.prepared import load_prepared
from core.recipe import Recipe, load_recipe
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.runs.trial import RealRun, measure, read_trial, trial_lines
from core.training import trial
from core.training.finish import main as finish
from core.training.settings import TRIAL_STEPS, real_run, schedule
from core.training.trial import as_trial, cut

NewRun = Callable[..., RunDirectory]


def told(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


def test_a_trial_foretells_the_real_run(
    new_run: NewRun,
    train_here: Callable[[RunDirectory], int],
    make_recipe: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trial, "TRIAL_ROWS", 40)
    sections: dict[str, Any] = {
        "data": {"train": make_recipe().data.train, "eval_fraction": 0.1},
        "training": {"epochs": 30},
        "evaluation": {"rows": 6, "max_new_tokens": 4},
        "hardware": {"dollars_per_hour": 3.6},
    }
    run = new_run(**sections, trial=True)
    assert train_here(run) == 0
    monkeypatch.setattr("core.training.finish.raise_when_asked_to_end", lambda: None)
    assert finish([str(run.path)]) == 0
    assert [event["step"] for event in told(run, "log")] == list(range(1, TRIAL_STEPS + 1))
    assert told(run, "checkpoint")
    assert (run.merged / "config.json").is_file()
    report = read_trial(run)
    assert report is not None
    assert {**told(run, "trial")[0]}.items() >= {"steps": TRIAL_STEPS}.items()
    assert report.tokens_per_s > 0
    assert report.ram_peak is not None
    assert 50e6 < report.ram_peak < 20e9
    assert report.vram_peak is None
    real = schedule(make_recipe(**sections), len(load_prepared(run.data).train))
    assert report.expected_steps == real.total
    ledger = load_prepared(run.data).ledger
    assert report.expected_tokens == 30 * ledger.train_tokens
    assert report.training_seconds == pytest.approx(
        report.expected_tokens / report.tokens_per_s, rel=0.01
    )
    assert report.expected_dollars == pytest.approx(report.expected_seconds / 1000, rel=0.01)
    assert any("tokens/s" in line for line in trial_lines(report))


def test_the_longest_row_is_always_tried(
    new_run: NewRun, make_recipe: Callable[..., Recipe], tiny_model: Any, tmp_path: Any
) -> None:
    from core.data.prepared import prepare
    from core.data.tokenizer import load_tokenizer

    recipe = make_recipe()
    prepared = prepare(recipe, load_tokenizer(tiny_model), tmp_path / "data")
    for seed in range(5):
        few = cut(prepared, effective_batch=2, seed=seed)
        assert len(few.train) == min(trial.TRIAL_ROWS, len(prepared.train))
        longest = max(len(row.input_ids) for row in few.train)
        assert longest == prepared.ledger.longest


def test_the_recipe_stays_that_of_the_real_run(
    make_recipe: Callable[..., Recipe], tmp_path: Any
) -> None:
    recipe = make_recipe(name="n" * 60)
    tried = as_trial(recipe)
    assert tried.trial
    assert not recipe.trial
    assert tried.name.endswith("-trial")
    assert tried.training == recipe.training
    path = tmp_path / "recipe.yaml"
    path.write_text(tried.to_yaml())
    assert load_recipe(path).trial


def test_each_part_is_carried_over() -> None:
    """Two warm-up steps are left out; evaluation goes by rows, saving by checkpoint."""
    log = {"kind": "log", "tokens_per_s": 100.0, "step_seconds": 2.0}
    slow = {"kind": "log", "tokens_per_s": 10.0, "step_seconds": 20.0}
    events: list[Event] = [
        {"kind": "state", "t": 0.0, "stage": "importing"},
        {**slow, "t": 30.0},
        {**slow, "t": 50.0},
        {**log, "t": 52.0},
        {"kind": "eval", "t": 53.0, "rows": 10},
        {"kind": "checkpoint", "t": 53.5},
        {**log, "t": 56.0},
        {"kind": "state", "t": 60.0, "stage": "merging"},
        {"kind": "result", "t": 70.0, "rows": 8, "seconds": 4.0},
    ]
    real = RealRun(
        steps=50, tokens=10_000, evaluations=11, evaluation_rows=20, checkpoints=10, answers=100
    )
    report = measure(events, real)
    assert report is not None
    assert report.tokens_per_s == 100.0
    assert report.start_seconds == 10.0
    assert report.training_seconds == 100.0
    assert report.evaluating_seconds == pytest.approx(22.0)
    assert report.saving_seconds == 5.0
    assert report.finishing_seconds == pytest.approx(10.0 + 92 * 0.5)
    assert report.expected_dollars is None
    assert measure(events[:1], real) is None


def test_max_steps_bound_the_tokens(make_recipe: Callable[..., Recipe], tiny_model: Any) -> None:
    from core.data.prepared import Ledger, Prepared
    from core.data.training_rows import TokenRow

    rows = [TokenRow(n, [1] * 10, [1] * 10) for n in range(100)]
    ledger = Ledger("messages", 100, {}, 100, 0, 0, 1000, 1000, 10)
    recipe = make_recipe(training={"max_steps": 5, "epochs": 3}, trial=True)
    assert real_run(recipe, Prepared(rows, [], [], ledger)).tokens == 5 * 8 * 10
