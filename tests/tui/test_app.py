"""What all places share: the way between them, help, the palette, small terminals, quitting."""

from __future__ import annotations

from threading import Event

import pytest
from textual.command import CommandList, CommandPalette
from textual.widgets import Input

from core.errors import UserError
from core.hardware.machine import Machine
from tests.tui.conftest import MakeRun, Open, machine_with, sees, shown, until
from tui.app import TuneDeck


async def test_the_number_keys_go_to_every_place(opened: Open) -> None:
    async with opened() as pilot:
        for key, place in enumerate(("home", "data", "plan", "train", "result", "chat"), 1):
            await pilot.press("escape")
            pilot.app.screen.set_focus(None)
            await pilot.press(str(key))
            assert pilot.app.current_mode == place
            assert place == pilot.app.screen.PLACE


async def test_help_lists_the_keys_that_work_and_closes(opened: Open) -> None:
    async with opened() as pilot:
        await pilot.press("question_mark")
        await sees(pilot, "Train the demo: embedded model")
        assert "Keys that work here" in shown(pilot)
        await pilot.press("G")
        await sees(pilot, "Quit")
        await pilot.press("escape")
        assert pilot.app.screen.PLACE == "home"


async def test_the_palette_goes_places_and_its_cursor_is_still(opened: Open) -> None:
    async with opened() as pilot:
        await pilot.press("ctrl+p")
        await sees(pilot, "Go to Chat")
        assert not pilot.app.screen.query_one(Input).cursor_blink
        await pilot.press(*"go to plan")
        await until(pilot, lambda: "Talk to the tuned model" not in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.current_mode == "plan")


@pytest.mark.parametrize("size", [(59, 24), (80, 14), (20, 5)])
async def test_a_terminal_that_is_too_small_says_so(opened: Open, size: tuple[int, int]) -> None:
    async with opened(size) as pilot:
        assert "too small" in " ".join(shown(pilot).split())
        await pilot.resize_terminal(80, 24)
        await sees(pilot, "No runs yet")


@pytest.mark.parametrize("width", [60, 80, 99, 100, 150])
async def test_the_bars_fit_any_width(opened: Open, width: int) -> None:
    async with opened((width, 24)) as pilot:
        await sees(pilot, "No runs yet")
        lines = shown(pilot).splitlines()
        assert lines[0].rstrip().endswith(("GiB", "no GPU"))
        assert lines[-1].rstrip().endswith("? Keys  q Quit")


async def test_an_error_is_shown_as_plain_text(opened: Open) -> None:
    async with opened((120, 36)) as pilot:
        assert isinstance(pilot.app, TuneDeck)
        pilot.app.report(UserError("The file [red]x[/red] is gone.", "Look for it."))
        await sees(pilot, "[red]x[/red]")
        assert "Look for it." in shown(pilot)


@pytest.mark.parametrize("key", ["q", "ctrl+q", "ctrl+c"])
async def test_it_quits(opened: Open, key: str) -> None:
    async with opened() as pilot:
        await pilot.press(key)
        await pilot.pause()
        assert not pilot.app.is_running


TINY = [(50, 12), (8, 3), (1, 1), (120, 36)]
SETTLED = {"home": "1 run", "plan": "peak, the sum", "train": "step", "result": "done"}


@pytest.mark.parametrize("place", ["home", "data", "plan", "train", "result", "chat"])
async def test_any_size_is_survived(opened: Open, make_run: MakeRun, place: str) -> None:
    make_run("done", phase="finished", step=60, total_steps=60)
    async with opened((120, 36)) as pilot:
        await sees(pilot, "1 run")
        pilot.app.action_go(place)
        await sees(pilot, SETTLED.get(place, ""))
        for over in ("ctrl+p", "escape"):
            await pilot.press(over)
            for size in TINY:
                await pilot.resize_terminal(*size)
            await pilot.press("escape")
    assert pilot.app.return_code in (None, 0)


async def test_the_palette_stands_fast_fingers(opened: Open) -> None:
    async with opened((80, 24)) as pilot:
        app = pilot.app
        await pilot.press("ctrl+p")
        assert isinstance(app.screen, CommandPalette)
        app.screen.query_one(CommandList)._lines.clear()
        app.screen.query_one(CommandList)._index_to_line.clear()
        await pilot.press("pageup", "pagedown")
        await pilot.press("escape", "ctrl+p", "escape", "ctrl+p", "pagedown")
        await until(pilot, lambda: isinstance(app.screen, CommandPalette))
        await until(pilot, lambda: not app.screen.query_one(Input).cursor_blink)
        await pilot.press(*"keys", "enter")
        await sees(pilot, "Keys")


async def test_a_driver_that_hangs_takes_one_thread_and_is_told(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, readings = Event(), []

    def hangs() -> Machine:
        readings.append(1)
        answer.wait(60)
        return machine_with(1)

    monkeypatch.setattr("core.hardware.readings.read_machine", hangs)
    async with opened((80, 24)) as pilot:
        app = pilot.app
        try:
            await until(pilot, lambda: readings)
            for _ in range(20):
                app.read_machine()
            assert len(readings) == 1
            app._asked -= 11
            for _ in range(3):
                app.read_machine()
            await until(pilot, lambda: len(app._notifications) > 0)
            (told,) = app._notifications
            assert "has not been read" in told.message
        finally:
            answer.set()
        await sees(pilot, "RTX 4090")
