"""Plan against real reports, a fixed machine and the real planner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from core.data.report import Report, TokenStatistics
from core.errors import UserError
from core.recipe import Recipe, load_recipe
from core.runs.directory import RunDirectory
from tests.tui.conftest import SIZES, Open, sees, shown, until
from tui.app import TuneDeck
from tui.deck import Deck
from tui.screens.recipe import recipe_from

TOKENS = TokenStatistics(
    total=120_000, trained=40_000, p50=110, p95=210, p99=240, max=256, truncated_rows=0,
    histogram=((128, 600), (256, 400)), counted_rows=1000,
)  # fmt: skip


def deck_with(path: Path) -> Deck:
    report = Report(source=str(path), format="messages", rows=1000, usable=1000, tokens=TOKENS)
    return Deck(source=str(path), report=report)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Recipe]:
    """The recipes that would have been started."""
    started: list[Recipe] = []

    def launch(recipe: Recipe) -> RunDirectory:
        started.append(recipe)
        return RunDirectory(tmp_path)

    monkeypatch.setattr("core.runs.supervisor.launch", launch)
    return started


@pytest.mark.parametrize("size", SIZES)
async def test_without_a_gpu_it_plans_for_the_cpu_and_says_so(
    opened: Open, tiny_rows: Path, size: tuple[int, int]
) -> None:
    async with opened(size, deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await sees(pilot, "No NVIDIA GPU")
        text = shown(pilot)
        for words in ("No NVIDIA GPU", "1,000 rows", "✓ yes", "used 8.00", "peak, the sum"):
            assert words in text


@pytest.mark.parametrize("size", SIZES)
async def test_on_a_gpu_the_bar_and_the_parts_add_up(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path, size: tuple[int, int]
) -> None:
    machine(1)
    async with opened(size, deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        candidate = pilot.app.screen.selected
        parts = candidate.prediction.parts
        assert parts.total == candidate.prediction.peak
        assert f"{candidate.prediction.peak / 2**30:.1f} GiB" in shown(pilot)
        assert "RTX 4090" in shown(pilot)
        assert "used 2.00" in shown(pilot)
        await pilot.press("end")
        await sees(pilot, "✗ does not fit")
        await sees(pilot, "What makes it smaller")
        await sees(pilot, "too much")


async def test_knobs_turn_and_are_priced_at_once(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        before = screen.selected
        await pilot.press("right_square_bracket", "R", "E")
        after = screen.selected
        assert after.model.id == before.model.id
        assert after.seq_length > before.seq_length
        assert after.hyper.rank > before.hyper.rank
        assert after.hyper.epochs > before.hyper.epochs
        assert after.seconds > before.seconds
        await pilot.press("minus")
        assert screen.selected.micro_batch < before.micro_batch
        assert screen.selected.prediction.peak < after.prediction.peak
        await pilot.press("c")
        assert screen.selected.gradient_checkpointing != after.gradient_checkpointing
        await pilot.press("u")
        assert screen.selected == before


async def test_a_price_gives_costs_and_a_bad_one_is_refused(opened: Open, tiny_rows: Path) -> None:
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        assert "Cost" not in shown(pilot)
        await pilot.press("dollar_sign", *"cheap", "enter")
        await sees(pilot, "A price is a number of dollars")
        await pilot.press(*["backspace"] * 5, *"2.5", "enter")
        await sees(pilot, "$2.5 an hour")
        await sees(pilot, "Cost")
        await until(pilot, lambda: pilot.app.screen.selected.dollars is not None)


async def test_enter_starts_the_run_of_the_row(
    opened: Open, tiny_rows: Path, launched: list[Recipe]
) -> None:
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        candidate = pilot.app.screen.selected
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.current_mode == "train")
        (recipe,) = launched
        assert recipe.model.id == candidate.model.id
        assert recipe.data.train == [str(tiny_rows)]
        assert recipe.training.micro_batch == candidate.micro_batch
        app = pilot.app
        assert isinstance(app, TuneDeck)
        assert app.deck.recipe == recipe


async def test_what_does_not_fit_starts_only_after_a_question(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path, launched: list[Recipe]
) -> None:
    machine(1)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("end", "s")
        await sees(pilot, "predicted not to fit")
        await pilot.press("escape")
        assert not launched


async def test_without_data_it_shows_an_example_and_does_not_start(
    opened: Open, launched: list[Recipe]
) -> None:
    async with opened((120, 36), start="plan") as pilot:
        await sees(pilot, "No data is open")
        await sees(pilot, "★")
        await pilot.press("s")
        await sees(pilot, "Open data first")
        assert not launched


@pytest.mark.parametrize("size", SIZES)
async def test_the_recipe_is_read_edited_checked_and_written(
    opened: Open, tiny_rows: Path, tmp_path: Path, size: tuple[int, int], launched: list[Recipe]
) -> None:
    async with opened(size, deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("y")
        await sees(pilot, "version: 1")
        await pilot.press("e")
        editor = pilot.app.screen.query_one("#editor")
        good = yaml.safe_load(editor.text)
        editor.text = yaml.safe_dump({**good, "method": {"name": "lora", "rank": 0}})
        await pilot.press("ctrl+s")
        await sees(pilot, "method.rank")
        editor.text = yaml.safe_dump({**good, "method": {"name": "lora", "rank": 24}})
        await pilot.press("ctrl+s")
        await sees(pilot, "write to a file")
        await pilot.press("w")
        target = tmp_path / "mine.yaml"
        pilot.app.focused.value = str(target)
        await pilot.press("enter")
        await sees(pilot, "Written")
        assert load_recipe(target).method.rank == 24
        await pilot.press("w")
        pilot.app.focused.value = str(target)
        await pilot.press("enter")
        await sees(pilot, "exists already")
        await pilot.press("escape", "s")
        await until(pilot, lambda: len(launched) == 1)
        assert launched[0].method.rank == 24


async def test_a_local_model_can_be_planned_for(
    opened: Open, tiny_rows: Path, tiny_model: Path
) -> None:
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("m")
        await sees(pilot, "Plan for which model?")
        pilot.app.focused.value = str(tiny_model)
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: pilot.app.screen.PLACE == "plan")
        await sees(pilot, "Esc shows all models")
        await until(pilot, lambda: pilot.app.screen.selected.model.id == str(tiny_model))
        await pilot.press("escape")
        await until(pilot, lambda: len(pilot.app.screen.candidates) > 5)


@pytest.mark.parametrize("text", ["", "[", "just words", "model: x\ndata: y\nnonsense: 1"])
def test_a_bad_recipe_is_one_sentence(text: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe_from(text)
    assert "\n" not in caught.value.message
