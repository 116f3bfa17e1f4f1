"""The results on real run folders: measured, half measured, not measured."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Event

import pytest

from core.evaluation import client
from core.evaluation.comparison import interval, pair_up
from core.evaluation.metrics import Answer
from core.evaluation.results import clear
from tests.tui.fake_runs import (
    finished_run,
    held_lock,
    make_run,
    put_results,
    put_state,
    settle,
    shown,
    tell,
    training_events,
    until,
)
from tests.tui.test_train import still_machine  # noqa: F401
from tui.app import TuneDeck
from tui.deck import Deck
from tui.widgets.line_table import LineTable


@asynccontextmanager
async def results(run, size=(120, 36)):
    app = TuneDeck(Deck(run=run), "result")
    async with app.run_test(size=size, notifications=True) as pilot:
        if run is not None:
            await settle(pilot)
        yield pilot


def measured(root, rows=40):
    run = finished_run(root)
    put_results(run, rows)
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(b"x" * 3_000_000)
    run.merged.mkdir()
    (run.merged / "model.safetensors").write_bytes(b"x" * 9_000_000)
    (run.merged / "config.json").write_text("{}")
    return run


def words(pilot):
    return " ".join(shown(pilot).split())


@pytest.mark.parametrize("size", [(80, 24), (120, 36), (200, 50)])
async def test_both_models_and_what_changed_are_there(tmp_path, size):
    async with results(measured(tmp_path), size) as pilot:
        text = words(pilot)
    assert "exact match 2 of 40 5% 38 of 40 95% +90 points" in text
    assert "held-out loss 2.7500 0.0310 -2.7190" in text
    assert "perplexity 15.64 1.03 -14.61" in text
    assert "adapter 2.86 MiB" in text
    assert "merged 8.58 MiB" in text
    assert "all 40" in text
    assert "fixed 36" in text
    assert "still wrong 2" in text
    assert "c Chat" in text


async def test_the_filter_shows_the_rows_it_names(tmp_path):
    async with results(measured(tmp_path)) as pilot:
        table = pilot.app.screen.query_one(LineTable)
        counts = [table.count]
        for _ in range(5):
            await pilot.press("f")
            counts.append(table.count)
        assert counts == [40, 36, 0, 2, 2, 40]
        await pilot.press("f", "f")
        assert "No such row." in shown(pilot)


async def test_a_row_is_shown_in_full_and_its_text_is_not_obeyed(tmp_path):
    run = measured(tmp_path)
    path = run.eval / "tuned.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = lines[0].replace("switch lamp 1 on, please", r"[red]a\u001b[31mb[/red]")
    path.write_text("\n".join(lines) + "\n")
    async with results(run) as pilot:
        text = shown(pilot)
        assert "[red]a␛[31mb[/red]" in text
        assert "base ✓" in text
        await pilot.press("down")
        assert "Sure! I can help.  (cut off)" in shown(pilot)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_enter_opens_a_row_and_escape_closes_it(tmp_path, size):
    async with results(measured(tmp_path), size) as pilot:
        await pilot.press("enter")
        await pilot.pause()
        assert "prompt" in shown(pilot)
        assert "switch lamp 1 on" in shown(pilot)
        await pilot.press("n")
        await pilot.pause()
        assert "switch lamp 2 on" in shown(pilot)
        await pilot.press("escape")
        await pilot.pause()
        assert "all 40" in shown(pilot)
        assert pilot.app.screen.query_one(LineTable).has_focus


async def test_few_rows_are_said_to_be_few(tmp_path):
    async with results(measured(tmp_path, rows=8)) as pilot:
        assert "Only 8 rows: the tuned share could as well be" in words(pilot)


async def test_what_was_not_measured_is_a_dash_and_is_said(tmp_path):
    run = measured(tmp_path)
    clear(run)
    async with results(run, (80, 24)) as pilot:
        text = words(pilot)
        assert "exact match – – –" in text
        assert "Nothing has been measured" in text
        assert "v measures now" in text


async def test_a_failed_run_without_a_model_says_so_and_its_keys_say_why(tmp_path):
    run = make_run(tmp_path)
    tell(run, training_events(20))
    put_state(run, "failed", step=20)
    async with results(run, (80, 24)) as pilot:
        assert "before it had a model to measure" in words(pilot)
        await pilot.press("x")
        await until(pilot, lambda: "no trained model yet" in words(pilot), 3)


async def test_an_evaluation_is_followed_live(tmp_path):
    run = finished_run(tmp_path)
    put_state(run, "running", stage="evaluating")
    progress = {"kind": "progress", "stage": "evaluating", "total": 140, "unit": "rows"}
    tell(
        run,
        [
            {"t": time.time(), "kind": "state", "phase": "running", "stage": "evaluating"},
            {"t": time.time(), **progress, "done": 17, "text": "tuned"},
        ],
    )
    with held_lock(run):
        async with results(run, (80, 24)) as pilot:
            assert "Being measured now: tuned 17 of 140 rows" in words(pilot)
            await pilot.press("v")
            await until(pilot, lambda: "The run goes on" in words(pilot), 3)
            put_results(run)
            await until(pilot, lambda: "38 of 40" in words(pilot), 4)


async def test_the_merged_model_is_exported_and_then_listed(tmp_path):
    run = measured(tmp_path)
    async with results(run) as pilot:
        await pilot.press("x")
        await until(pilot, lambda: "export/merged" in shown(pilot))
        await until(pilot, lambda: "Written to" in shown(pilot))
    assert (run.export / "merged" / "model.safetensors").stat().st_size == 9_000_000


async def test_what_cannot_be_measured_again_is_one_sentence(tmp_path, monkeypatch):
    run = measured(tmp_path)
    seen, really = Event(), client.evaluate_run

    def evaluate_run(*args, **options):
        seen.wait(30)  # the start of it must be seen before its end
        return really(*args, **options)

    monkeypatch.setattr(client, "evaluate_run", evaluate_run)
    async with results(run) as pilot:
        await pilot.press("v")
        await until(pilot, lambda: "Measuring again" in shown(pilot))
        assert "Wait until that is done." in pilot.app.screen.why_not("export")
        seen.set()
        await until(pilot, lambda: not pilot.app.screen._busy, 60)
        await until(pilot, lambda: "Error" in words(pilot) or "not" in words(pilot), 3)
        assert "Traceback" not in shown(pilot)
        assert pilot.app.screen.why_not("export") is None


async def test_without_a_run_it_says_what_to_do():
    async with results(None, (80, 24)) as pilot:
        assert "Press 1 for Home" in shown(pilot)


def answer(number, exact):
    return Answer(number, "p", "r", "a", exact, "stop")


def test_pairs_are_judged_by_what_the_tuning_did():
    base = [answer(1, False), answer(2, True), answer(3, True), answer(4, False), answer(9, True)]
    tuned = [answer(1, True), answer(2, False), answer(3, True), answer(4, False), answer(5, True)]
    verdicts = {pair.number: pair.verdict for pair in pair_up(base, tuned)}
    assert verdicts == {1: "fixed", 2: "broke", 3: "right", 4: "wrong", 5: "right", 9: "broke"}


def test_the_interval_narrows_with_rows_and_stays_within_0_and_1():
    assert interval(1.0, 10)[1] == 1.0
    assert interval(1.0, 10)[0] == pytest.approx(0.7225, abs=1e-3)
    few, many = interval(0.5, 10), interval(0.5, 1000)
    assert many[1] - many[0] < few[1] - few[0]


def test_the_results_look_as_they_should(tmp_path, monkeypatch, snap_compare):
    monkeypatch.chdir(tmp_path)
    app = TuneDeck(Deck(run=measured(Path("runs"))), "result")
    assert snap_compare(app, terminal_size=(120, 36), run_before=settle)
