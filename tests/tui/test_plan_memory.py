"""The Plan screen against readings that move: the memory bar, and what is planned anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.hardware.machine import Gpu, GpuProcess
from core.planning.levers import levers_for
from core.planning.retuning import retune
from tests.tui.conftest import GIB, SIZES, Open, machine_with, sees, shown, until
from tests.tui.test_plan import deck_with
from tests.tui.test_snapshots import _candidate as a_candidate
from tui.widgets.plan_memory import memory_lines


async def test_the_memory_bar_moves_with_the_readings(
    opened: Open,
    machine: Callable[[int], None],
    tiny_rows: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine(1)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await sees(pilot, "used 2.00")
        before = machine_with(1)
        gpu = replace(before.gpus[0], used=9 * GIB, free=15 * GIB)
        fuller = replace(before, gpus=(gpu,))
        monkeypatch.setattr("core.hardware.readings.read_machine", lambda: fuller)
        pilot.app.read_machine()
        await sees(pilot, "used 9.00")
        await until(pilot, lambda: pilot.app.screen.session.plan.free_bytes == 15 * GIB)


async def test_a_gpu_that_is_lost_gone_and_back_is_told_as_it_is_now(
    opened: Open, tiny_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = machine_with(1)
    unread = replace(there.gpus[0], used=None, free=None)
    readings = [there]
    monkeypatch.setattr("core.hardware.readings.read_machine", lambda: readings[-1])
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await sees(pilot, "of 24.0 GiB")
        for now, words in (
            (replace(there, gpus=(Gpu(0),), gpu_note="GPU 0 does not answer"), "does not answer"),
            (machine_with(0), "No NVIDIA GPU"),
            (replace(there, gpus=(unread,), gpu_note="it cannot be read"), "It cannot be read"),
            (there, "of 24.0 GiB"),
        ):
            before = shown(pilot)
            readings.append(now)
            pilot.app.read_machine()
            await sees(pilot, words)
            assert words not in before
        await until(pilot, lambda: "takes place on the CPU" not in shown(pilot))


async def test_a_little_less_memory_counts_where_something_fits_no_more(
    opened: Open, tiny_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = [machine_with(1)]
    monkeypatch.setattr("core.hardware.readings.read_machine", lambda: readings[-1])
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        session = pilot.app.screen.session
        left = max(one.prediction.high for one in session.candidates if one.fits) - 1
        now = machine_with(1)
        gpu = replace(now.gpus[0], used=24 * GIB - left, free=left)
        readings.append(replace(now, gpus=(gpu,)))
        pilot.app.read_machine()
        await until(pilot, lambda: session.plan.free_bytes == left)
        assert all(one.prediction.high <= left for one in session.candidates if one.fits)


async def test_once_something_fits_it_is_put_forward(
    opened: Open, tiny_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = machine_with(1)
    full = replace(empty, gpus=(replace(empty.gpus[0], used=24 * GIB, free=GIB // 4),))
    readings = [full]
    monkeypatch.setattr("core.hardware.readings.read_machine", lambda: readings[-1])
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        screen = pilot.app.screen
        await until(pilot, lambda: screen.selected and screen.session.starred is None)
        readings.append(empty)
        pilot.app.read_machine()
        await until(pilot, lambda: screen.session.starred is not None)
        assert screen.selected_key == screen.session.starred


@pytest.mark.parametrize("size", SIZES[:2])
async def test_what_does_not_fit_says_so_whole_with_its_levers_and_their_costs(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path, size: tuple[int, int]
) -> None:
    machine(1)
    async with opened(size, deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        screen.session.words = "qwen3-32b"
        screen._show()
        await pilot.press("end")
        await sees(pilot, "What makes it smaller, by GiB")
        strongest = levers_for(screen.selected, retune)[0]
        await sees(pilot, strongest.text[:20])
        await sees(pilot, strongest.costs[:10])
        await sees(pilot, "✗ does not fit: peak")
        details = screen.query_one("#details")
        cut = [strip.text for strip in details.draw(details.size) if "…" in strip.text]
        assert not cut


async def test_the_bar_shows_how_much_more_it_may_need_and_who_holds_the_rest(
    opened: Open, tiny_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = machine_with(1)
    others = (GpuProcess(7, 5 * GIB, "python"), GpuProcess(8, 3 * GIB, None))
    mine = GpuProcess(9, GIB, "python", ours=True)
    gpu = replace(there.gpus[0], used=10 * GIB, free=14 * GIB, processes=(*others, mine))
    readings = [replace(there, gpus=(gpu,))]
    monkeypatch.setattr("core.hardware.readings.read_machine", lambda: readings[-1])
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await sees(pilot, "2 other processes hold 8.00 GiB, TuneDeck holds 1.00 GiB")
        await sees(pilot, "╌ to")
        prediction = pilot.app.screen.selected.prediction
        bar = memory_lines(readings[-1], pilot.app.screen.selected, 240)[1].plain
        assert len(bar) == 240
        shares = {"═": 10 * GIB, "━": prediction.peak, "╌": prediction.high - prediction.peak}
        for sign, size in shares.items():
            assert abs(bar.count(sign) - size / (24 * GIB) * 240) <= 1
        readings.append(there)
        pilot.app.read_machine()
        await until(pilot, lambda: "holds" not in shown(pilot))


@pytest.mark.parametrize(("used", "words"), [(2, "─ left"), (13, "╌ up to"), (14, "╍"), (40, "╍")])
def test_the_bar_never_overflows(used: int, words: str) -> None:
    """Whether all is left, the run may not fit, does not, or the readings are out of date."""
    candidate = a_candidate("org/Small-1B-Instruct", 1, "lora", 10.5, fits=True)
    there = machine_with(1)
    gpu = replace(there.gpus[0], used=used * GIB, free=(24 - used) * GIB)
    for width in (60, 78, 118, 198):
        head, bar, *rest = memory_lines(replace(there, gpus=(gpu,)), candidate, width)
        assert bar.cell_length == width
        assert head.cell_length <= width
        assert words in head.plain
        assert not rest


def test_without_a_row_the_bar_shows_the_memory_alone() -> None:
    head, bar = memory_lines(machine_with(1), None, 78)
    assert "this run" not in head.plain
    assert "left 22.0" in head.plain
    assert set(bar.plain) == {"═", "─"}
