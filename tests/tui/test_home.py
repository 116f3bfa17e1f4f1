"""Home against real run folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from core.hardware.machine import Gpu, GpuProcess
from core.runs.state import Exit, stored_state
from tests.tui.conftest import GIB, HOSTILE, SIZES, MakeRun, Open, machine_with, sees, shown, until
from tui.app import TuneDeck
from tui.screens.home import HomeScreen


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


async def test_a_stopped_run_says_whether_there_is_a_checkpoint(
    opened: Open, make_run: MakeRun
) -> None:
    run = make_run("halted", phase="stopped")
    async with opened((80, 24)) as pilot:
        await sees(pilot, "r starts it again")
        (run.checkpoints / "checkpoint-3").mkdir(parents=True)
        await pilot.press("R")
        await sees(pilot, "r resumes it from its last checkpoint")


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


async def test_a_look_from_before_does_not_take_a_run_that_has_just_begun(
    opened: Open, make_run: MakeRun
) -> None:
    async with opened((80, 24)) as pilot:
        app = pilot.app
        assert isinstance(app, TuneDeck)
        home = app.screen
        assert isinstance(home, HomeScreen)
        await sees(pilot, "No runs yet")
        run = make_run("young", phase="preparing")
        app.deck.run = run
        await pilot.press("4")
        await sees(pilot, "young")
        home._receive([])
        await sees(pilot, "young")
        assert app.deck.run == run


def with_gpu(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """A machine whose one GPU reads otherwise."""
    before = machine_with(1)
    gpu = replace(before.gpus[0], **changes)
    monkeypatch.setattr("core.hardware.readings.read_machine", lambda: replace(before, gpus=(gpu,)))


@pytest.mark.parametrize("size", SIZES)
async def test_what_cannot_be_read_is_na(
    opened: Open, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    with_gpu(
        monkeypatch, name=None, used=None, free=None, temperature=None, power=None, utilisation=None
    )
    async with opened(size) as pilot:
        await sees(pilot, "N/A of 24.0 GiB")
        assert shown(pilot).count("N/A") >= 5
        await pilot.press("i")
        await sees(pilot, "The machine, right now")
        await sees(pilot, "N/A free of 24.0 GiB, N/A used")
        await pilot.press("escape")
        await until(pilot, lambda: "right now" not in shown(pilot))


async def test_slices_and_heat_are_shown(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    part = Gpu(index=0, uuid="MIG-1", name="NVIDIA A100 MIG 1g.10gb", total=10 * GIB, used=GIB)
    with_gpu(monkeypatch, mig=True, slices=(part,), throttled=("power limit", "temperature"))
    async with opened((80, 24)) as pilot:
        await sees(pilot, "MIG 1g.10gb")
        await sees(pilot, "1.0/10.0 GiB")
        await sees(pilot, "GPU 0 is slowed by temperature.")


@pytest.mark.parametrize("size", SIZES)
async def test_every_reading_is_one_key_away_and_moves(
    opened: Open, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    ours = GpuProcess(4242, 3 * GIB, "python", ours=True)
    with_gpu(monkeypatch, clock=2520, throttled=(), pcie="4.0 x16", processes=(ours,))
    async with opened(size) as pilot:
        await sees(pilot, "GeForce RTX 4090")
        await pilot.press("i")
        for words in (
            "2,520 MHz, memory N/A",
            "4.0 x16",
            "8.9",
            "4242 python, TuneDeck's: 3.00 GiB",
        ):
            await sees(pilot, words)
        with_gpu(monkeypatch, used=20 * GIB, free=4 * GIB)
        pilot.app.read_machine()
        await sees(pilot, "4.00 GiB free of 24.0 GiB")
        await pilot.press("end")
        await sees(pilot, "bitsandbytes")
        await pilot.press("i")
        await until(pilot, lambda: "right now" not in shown(pilot))


async def test_another_disk_for_models_is_a_line_of_its_own(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = replace(machine_with(0), cache_total=99 * GIB, cache_free=11 * GIB)
    monkeypatch.setattr("core.hardware.readings.read_machine", lambda: both)
    async with opened((80, 24)) as pilot:
        await sees(pilot, "11.0 GiB free")
        assert "300.0 GiB free" in shown(pilot)
