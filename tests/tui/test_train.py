"""The dashboard on real run folders, alive, dead and finished."""

from __future__ import annotations

import math
import time
from contextlib import asynccontextmanager

import pytest

from core.hardware.machine import Machine
from tests.tui.fake_runs import (
    START,
    finished_run,
    held_lock,
    log_event,
    make_run,
    put_samples,
    put_state,
    settle,
    shown,
    tell,
    training_events,
    until,
)
from tui.app import TuneDeck
from tui.deck import Deck
from tui.screens.stop import StopScreen
from tui.widgets.chart import MARK
from tui.widgets.key_bar import KeyBar
from tui.widgets.log_pane import LogPane

SIZES = [(80, 24), (120, 36), (200, 50)]
GIB = 1024**3
MACHINE = Machine(START, (), "no NVIDIA GPU", None, "CPU", 8, 50.0, 24 * GIB, 20 * GIB, None, None)


@pytest.fixture(autouse=True)
def still_machine(monkeypatch):
    """The same machine, terminal and time of day everywhere."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(time, "localtime", time.gmtime)
    monkeypatch.setattr("core.hardware.readings.read_machine", lambda: MACHINE)


@asynccontextmanager
async def dashboard(run, size=(120, 36)):
    app = TuneDeck(Deck(run=run), "train")
    async with app.run_test(size=size, notifications=True) as pilot:
        if run is not None:
            await settle(pilot)
        yield pilot


def living(tmp_path, upto=38):
    run = make_run(tmp_path)
    put_state(run, "running", stage="training", step=upto)
    tell(run, training_events(upto, start=time.time() - 2 * upto - 10))
    put_samples(run, start=time.time() - 40)
    run.log.write_text("".join(f"line {n}\n" for n in range(100)))
    return run


@pytest.mark.parametrize("size", SIZES)
async def test_a_living_run_is_whole_at_every_size(tmp_path, size):
    run = living(tmp_path)
    with held_lock(run):
        async with dashboard(run, size) as pilot:
            text = shown(pilot)
    for words in ("▶ running", "spoken-json", "▸ train", "step 38 of 60", "left", "worker.log"):
        assert words in text
    for words in ("learning rate", "grad norm", "tokens/s", "elapsed", "$", "RAM"):
        assert words in text
    assert "checkpoint at step 30" in text
    assert MARK in text
    assert "…" not in text.split("worker.log")[0], "nothing above the log is cut"
    lines = text.split("\n")
    assert lines[-1].startswith(" s Stop")
    assert lines[-1].rstrip().endswith("q Quit")


@pytest.mark.parametrize("size", SIZES[:2])
async def test_a_killed_run_is_called_dead(tmp_path, size):
    run = living(tmp_path)
    with held_lock(run) as holder:
        async with dashboard(run, size) as pilot:
            assert "▶ running" in shown(pilot)
            holder.kill()
            holder.wait()
            await until(pilot, lambda: "✗ failed" in shown(pilot))
            await until(pilot, lambda: "The run has failed." in shown(pilot))
            text = shown(pilot)
            assert "killed" in text
            assert "r resumes from the checkpoint of step 30" in " ".join(text.split())


async def test_steps_arrive_while_one_watches(tmp_path):
    run = living(tmp_path, upto=5)
    with held_lock(run):
        async with dashboard(run) as pilot:
            tell(run, [log_event(6, time.time()), log_event(7, time.time(), loss=1.2345)])
            await until(pilot, lambda: "step 7 of 60" in shown(pilot))
            assert "1.2345" in shown(pilot)


async def test_a_covered_dashboard_does_not_look(tmp_path, monkeypatch):
    run = living(tmp_path)
    with held_lock(run):
        async with dashboard(run) as pilot:
            await pilot.press("question_mark")
            screen = pilot.app.screen_stack[0]
            await until(pilot, lambda: not screen._looking)
            looks = []
            monkeypatch.setattr(screen._watch, "look", looks.append)
            await pilot.pause(2.2)
            assert looks == []


async def test_nan_is_said_in_words(tmp_path):
    run = living(tmp_path, upto=8)
    tell(run, [log_event(step, START, loss=math.nan) for step in (9, 10, 11)])
    with held_lock(run):
        async with dashboard(run) as pilot:
            text = shown(pilot)
    assert "3 of 11 losses are not a number" in text
    assert "train nan" in text


async def test_a_resume_continues_the_old_curve(tmp_path):
    run = living(tmp_path, upto=38)
    tell(run, training_events(44, first=31, start=time.time()))
    with held_lock(run):
        async with dashboard(run) as pilot:
            history = pilot.app.screen.view.history
            assert list(history.loss.steps) == list(range(1, 45))
            assert "step 44 of 60" in shown(pilot)


async def test_a_hundred_thousand_events_do_not_freeze_the_app(tmp_path):
    run = make_run(tmp_path)
    put_state(run, "stopped", step=100_000)
    tell(run, [log_event(step, START + step) for step in range(1, 100_001)])
    app = TuneDeck(Deck(run=run), "train")
    async with app.run_test(size=(80, 24)) as pilot:
        slowest = 0.0
        screen = app.screen
        while getattr(screen, "view", None) is None or screen.view.behind:
            began = time.monotonic()
            await pilot.pause(0.01)
            slowest = max(slowest, time.monotonic() - began)
            screen = app.screen
        assert slowest < 1.0
        await until(pilot, lambda: "step 100,000" in shown(pilot))


async def test_a_download_shows_bytes_rate_and_what_is_left(tmp_path):
    run = make_run(tmp_path)
    put_state(run, "preparing", stage="downloading")
    now = time.time()
    tell(
        run,
        [
            {"t": now - 9, "kind": "state", "phase": "preparing", "stage": "downloading"},
            *(
                {
                    "t": now - 4 + second,
                    "kind": "progress",
                    "stage": "downloading",
                    "done": second * 10 * 1024**2,
                    "total": 269_000_000,
                    "unit": "bytes",
                    "text": "model.safetensors",
                }
                for second in range(5)
            ),
        ],
    )
    with held_lock(run):
        async with dashboard(run, (80, 24)) as pilot:
            text = shown(pilot)
            assert "▸ download" in text
            assert "40.0 MiB of 257 MiB" in text
            assert "10.0 MiB/s" in text
            assert "16%" in text


async def test_stopping_asks_first_and_leaves_an_intent(tmp_path):
    run = living(tmp_path)
    with held_lock(run):
        async with dashboard(run) as pilot:
            await pilot.press("s")
            assert isinstance(pilot.app.screen, StopScreen)
            assert "Stop spoken-json at step 38?" in shown(pilot)
            await pilot.press("escape")
            assert not (run.control / "stop").exists()
            await pilot.press("s", "enter")
            assert (run.control / "stop").exists()


async def test_checkpoint_and_evaluation_can_be_asked_for(tmp_path):
    run = living(tmp_path)
    with held_lock(run):
        async with dashboard(run) as pilot:
            await pilot.press("c", "e")
            assert (run.control / "checkpoint").exists()
            assert (run.control / "evaluate").exists()


async def test_keys_come_alive_when_the_training_begins(tmp_path):
    run = make_run(tmp_path)
    put_state(run, "running", stage="loading")
    *before, begun = training_events(0, start=time.time() - 20)
    tell(run, before)
    with held_lock(run):
        async with dashboard(run) as pilot:
            bar = pilot.app.screen.query_one(KeyBar)
            enabled = lambda: {key.press: key.enabled for key in bar.keys}["c"]  # noqa: E731
            assert not enabled()
            tell(run, [begun])
            await until(pilot, enabled, 4)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("s", "nothing to stop"),
        ("c", "while the run trains"),
        ("e", "while the run trains"),
        ("r", "Only a stopped or failed run"),
        ("d", "nothing to leave running"),
    ],
)
async def test_a_key_that_does_nothing_says_why(tmp_path, key, reason):
    async with dashboard(finished_run(tmp_path)) as pilot:
        await pilot.press(key)
        await until(pilot, lambda: reason in shown(pilot))


async def test_enter_on_a_living_run_says_when_the_chat_opens(tmp_path):
    run = living(tmp_path)
    with held_lock(run):
        async with dashboard(run) as pilot:
            await pilot.press("enter")
            await until(pilot, lambda: "when the run has finished" in shown(pilot))
            assert pilot.app.current_mode == "train"


async def test_a_finished_run_points_to_chat_and_results(tmp_path):
    async with dashboard(finished_run(tmp_path), (80, 24)) as pilot:
        text = " ".join(shown(pilot).split())
        assert "✓ Finished. 6 chats with the tuned model 5 shows the results" in text
        assert "exact match 5% → 95%" in text
        assert "evaluate ✓" in text
        await pilot.press("5")
        assert pilot.app.current_mode == "result"


async def test_a_run_that_ended_early_says_which_weights_it_kept_and_not_what_to_do_now(tmp_path):
    run = finished_run(tmp_path)
    alarm = {"kind": "warning", "code": "over-fitting", "message": "By heart.", "remedy": "Stop."}
    early = {"kind": "warning", "code": "early-stopping", "message": "Training ended at step 9."}
    tell(run, [alarm, {**early, "remedy": "The result is the checkpoint of step 3."}])
    async with dashboard(run, (80, 24)) as pilot:
        await until(pilot, lambda: "The result is the checkpoint of step 3." in shown(pilot))
        assert "By heart" not in shown(pilot).split("loss  ─")[0], "but in the events below"


async def test_without_a_run_it_says_what_to_do():
    async with dashboard(None, (80, 24)) as pilot:
        assert "Press 1 for Home" in shown(pilot)
        await pilot.press("s")
        await until(pilot, lambda: "No run is open: press 1" in shown(pilot))


async def test_the_chart_obeys_its_keys(tmp_path):
    async with dashboard(finished_run(tmp_path)) as pilot:
        for key, words in [("y", "y log"), ("m", "m smooth"), ("z", "z last 50"), ("z", "z all")]:
            await pilot.press(key)
            await until(pilot, lambda words=words: words in shown(pilot))
        await pilot.press("v")
        await until(pilot, lambda: "learning rate  0" in shown(pilot))


async def test_the_log_opens_scrolls_and_closes(tmp_path):
    run = living(tmp_path)
    run.log.write_text("".join(f"line {n} \x1b[31m[bold]\x07\n" for n in range(300)))
    with held_lock(run):
        async with dashboard(run, (80, 24)) as pilot:
            assert "line 299" not in shown(pilot), "what happened is shown, not the log"
            await pilot.press("l")
            await until(pilot, lambda: "line 283 " in shown(pilot))
            assert "line 299 [bold]␇" in shown(pilot), "control characters are shown, not obeyed"
            assert "step 38 of 60" in shown(pilot), "the progress stays in sight"
            await pilot.press("home")
            assert "line 0 " in shown(pilot)
            with run.log.open("a") as file:
                file.write("a late line\n")
            await pilot.pause(1.5)
            assert "line 0 " in shown(pilot), "a reader keeps their place"
            await pilot.press("end")
            await until(pilot, lambda: "a late line" in shown(pilot))
            await pilot.press("l")
            assert not pilot.app.screen.query_one(LogPane).has_focus


async def test_a_run_that_is_deleted_meanwhile_is_let_go(tmp_path):
    import shutil

    run = finished_run(tmp_path)
    async with dashboard(run) as pilot:
        shutil.rmtree(run.path)
        await until(pilot, lambda: "No run is open." in shown(pilot))
        assert pilot.app.deck.run is None


async def test_detaching_leaves_the_app_and_not_the_run(tmp_path):
    run = living(tmp_path)
    with held_lock(run) as holder:
        async with dashboard(run) as pilot:
            await pilot.press("d")
            await pilot.pause()
            assert pilot.app._exit
        assert holder.poll() is None
        assert not list(run.control.iterdir())


async def test_two_apps_watch_one_run(tmp_path):
    run = living(tmp_path)
    with held_lock(run):
        async with dashboard(run) as one, dashboard(run, (80, 24)) as other:
            tell(run, [log_event(39, time.time(), loss=0.9876)])
            for pilot in (one, other):
                await until(pilot, lambda pilot=pilot: "0.9876" in shown(pilot))


def test_the_dashboard_looks_as_it_should(tmp_path, monkeypatch, snap_compare):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    run = finished_run(Path("runs"))
    assert snap_compare(
        TuneDeck(Deck(run=run), "train"), terminal_size=(120, 36), run_before=settle
    )


def test_the_dashboard_looks_as_it_should_when_narrow(tmp_path, monkeypatch, snap_compare):
    monkeypatch.chdir(tmp_path)
    from pathlib import Path

    run = make_run(Path("runs"))
    tell(run, training_events(38))
    put_samples(run, gpus=1)
    put_state(run, "stopped", step=38)
    assert snap_compare(TuneDeck(Deck(run=run), "train"), terminal_size=(80, 24), run_before=settle)
