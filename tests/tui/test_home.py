"""Home against real run folders."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.runs.state import Exit, stored_state
from tests.tui.conftest import HOSTILE, SIZES, MakeRun, Open, sees, shown, until
from tui.app import TuneDeck


@pytest.mark.parametrize("size", SIZES)
async def test_a_first_time_user_is_told_what_to_press(opened: Open, size: tuple[int, int]) -> None:
    async with opened(size) as pilot:
        await sees(pilot, "No runs yet")
        await sees(pilot, "Train the demo")
        await sees(pilot, "Open your own data")
        text = shown(pilot)
        assert "No NVIDIA GPU" in text
        assert "300.0 GiB free" in text
        assert "? Keys" in text


async def test_a_gpu_is_shown_with_all_its_readings(
    opened: Open, machine: Callable[[int], None]
) -> None:
    machine(2)
    async with opened((80, 24)) as pilot:
        await sees(pilot, "GPU 1")
        for reading in ("GeForce RTX 4090", "2.0/24.0 GiB", "37 %", "54 °C", "212 W", "8.0/32.0"):
            assert reading in shown(pilot)


@pytest.mark.parametrize("size", SIZES)
async def test_runs_are_listed_with_state_steps_and_losses(
    opened: Open, make_run: MakeRun, size: tuple[int, int]
) -> None:
    make_run("done", phase="finished", step=60, total_steps=60, loss=0.0123, eval_loss=0.0456)
    make_run("alive", lock=True, phase="running", stage="training", step=7, total_steps=1200)
    make_run("broken", phase="running", stage="training", loss=float("nan"))
    async with opened(size) as pilot:
        await sees(pilot, "3 runs, 1 at work")
        text = shown(pilot)
        for words in ("✓ finished", "60/60", "0.012", "0.046", "▶ training", "7/1,200", "1 h"):
            assert words in text
        assert "✗ failed" in text
        assert "NaN" in text


async def test_a_failed_run_says_why_when_it_is_highlighted(
    opened: Open, make_run: MakeRun
) -> None:
    reason = Exit("oom", f"The GPU ran out of memory {HOSTILE}.", "Halve micro_batch.")
    make_run("oom", phase="failed", exit=reason)
    async with opened((80, 24)) as pilot:
        await sees(pilot, "The GPU ran out of memory")
        assert "Halve micro_batch." in shown(pilot)
        assert "\x1b" not in shown(pilot)
        assert "[bold]red[/bold]" in shown(pilot)


async def test_enter_goes_to_what_the_run_has_to_show(opened: Open, make_run: MakeRun) -> None:
    run = make_run("live", lock=True, phase="running", stage="training")
    async with opened() as pilot:
        await sees(pilot, "training")
        await pilot.press("enter")
        app = pilot.app
        assert isinstance(app, TuneDeck)
        await until(pilot, lambda: app.current_mode == "train")
        assert app.deck.run == run


async def test_the_first_run_has_the_keys_at_once(opened: Open, make_run: MakeRun) -> None:
    async with opened() as pilot:
        await sees(pilot, "No runs yet")
        await pilot.press("2")
        run = make_run("first", phase="finished")
        await pilot.press("1")
        await sees(pilot, "finished")
        await until(pilot, lambda: pilot.app.focused is not None)
        await pilot.press("x")
        await sees(pilot, f"Delete {run.id}?")


async def test_arrows_and_letters_move_and_the_cursor_stays_on_its_run(
    opened: Open, make_run: MakeRun
) -> None:
    first = make_run("first", phase="stopped")
    second = make_run("second", phase="stopped")
    async with opened() as pilot:
        screen = pilot.app.screen
        await sees(pilot, "first-")
        await pilot.press("j")
        assert screen.selected.run == first
        await pilot.press("up")
        assert screen.selected.run == second
        make_run("third", phase="stopped")
        await pilot.press("R")
        await sees(pilot, "third-")
        assert screen.selected.run == second


async def test_delete_asks_by_name_and_only_y_deletes(opened: Open, make_run: MakeRun) -> None:
    run = make_run("precious", phase="finished")
    async with opened() as pilot:
        await sees(pilot, "precious")
        await pilot.press("x")
        await sees(pilot, f"Delete {run.id}?")
        await pilot.press("enter")
        await pilot.press("escape")
        assert run.path.is_dir()
        await pilot.press("x")
        await sees(pilot, f"Delete {run.id}?")
        await pilot.press("y")
        await until(pilot, lambda: not run.path.exists())
        await sees(pilot, "No runs yet")


async def test_a_key_that_does_nothing_says_why(opened: Open, make_run: MakeRun) -> None:
    make_run("done", phase="finished")
    async with opened((120, 36)) as pilot:
        await sees(pilot, "finished")
        await pilot.press("s")
        await sees(pilot, "is not running")
        await pilot.press("r")
        await sees(pilot, "nothing to resume")
        await pilot.press("f9", "F", "ctrl+y")
        assert pilot.app.is_running


async def test_stop_leaves_the_intent_of_a_graceful_stop(opened: Open, make_run: MakeRun) -> None:
    run = make_run("live", lock=True, phase="running", stage="training")
    async with opened() as pilot:
        await sees(pilot, "training")
        await pilot.press("s")
        await sees(pilot, f"Stop {run.id}?")
        await pilot.press("y")
        await until(pilot, lambda: (run.control / "stop").exists())
        assert stored_state(run).alive


async def test_the_filter_keeps_what_matches_and_escape_shows_all(
    opened: Open, make_run: MakeRun
) -> None:
    make_run("apples", phase="finished")
    make_run("pears", phase="stopped")
    async with opened() as pilot:
        await sees(pilot, "2 runs")
        await pilot.press("slash", *"stopp", "enter")
        await sees(pilot, "1 shown")
        assert "apples" not in shown(pilot)
        await pilot.press("escape")
        await sees(pilot, "apples")


async def test_hostile_names_and_models_stay_text(opened: Open, make_run: MakeRun) -> None:
    make_run("x", model=HOSTILE, phase="finished")
    async with opened((120, 36)) as pilot:
        await sees(pilot, "evil 日本語")
        assert "\x1b" not in shown(pilot)
        assert "\u202e" not in shown(pilot)


async def test_the_highlighted_run_is_the_one_that_the_other_places_show(
    opened: Open, make_run: MakeRun
) -> None:
    older = make_run("older", phase="finished")
    newer = make_run("newer", phase="stopped")
    async with opened((80, 24)) as pilot:
        await sees(pilot, "2 runs")
        first = pilot.app.deck.run
        assert first in (older, newer)
        await pilot.press("down")
        await until(pilot, lambda: pilot.app.deck.run not in (None, first))
        await pilot.press("4")
        await sees(pilot, pilot.app.deck.run.id)
