"""Plan against real reports, a fixed machine and the real planner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from textual.pilot import Pilot

from core.data.report import Report, TokenStatistics
from core.errors import UserError
from core.methods import METHODS
from core.planning.presets import own_presets
from core.planning.retuning import retune
from core.planning.search import with_method
from core.recipe import Recipe, load_recipe
from core.runs.directory import RunDirectory
from tests.tui.conftest import SIZES, Open, sees, shown, until
from tui.app import TuneDeck
from tui.deck import Deck
from tui.screens.recipe import recipe_from
from tui.widgets.plan_elsewhere import Elsewhere

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

    def launch(recipe: Recipe, *, queued: bool = False) -> RunDirectory:
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


async def test_a_long_name_leaves_room_for_the_rows(opened: Open, tiny_rows: Path) -> None:
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        pilot.app.screen.session.name = "名" * 40
        await pilot.press("u")
        await sees(pilot, "longest 256")
        assert pilot.app.screen.session.run_name == "名" * 40


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


async def test_rows_that_cannot_be_trained_on_are_not_started_with(
    opened: Open, tiny_rows: Path, launched: list[Recipe]
) -> None:
    deck = deck_with(tiny_rows)
    assert deck.report is not None
    deck.report = replace(deck.report, error="No row can be trained on.")
    async with opened((120, 36), deck, "plan") as pilot:
        await sees(pilot, "★")
        for key in ("enter", "s", "t"):
            await pilot.press(key)
            await sees(pilot, "No row can be trained on")
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
        await sees(pilot, "w file")
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
        await until(pilot, lambda: len(pilot.app.screen.session.candidates) > 5)


async def test_models_are_found_by_size_licence_and_language(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("m", *"apache german <1b")
        await sees(pilot, "Qwen/Qwen3-0.6B")
        assert "Llama" not in shown(pilot)
        assert "adapts q_proj, k_proj" in shown(pilot)
        assert "commercial use" in shown(pilot)
        await pilot.press(*[" ", *"qwen3"], "enter")
        await until(pilot, lambda: pilot.app.screen.PLACE == "plan")
        await sees(pilot, "Only Qwen/Qwen3-0.6B is shown")


async def test_a_model_that_nobody_knows_is_said(
    opened: Open, tiny_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("m")
        await sees(pilot, "Plan for which model?")
        pilot.app.focused.value = "acme/nothing"
        await pilot.pause()
        await pilot.press("enter")
        await until(pilot, lambda: "not known here" in said(pilot))
        assert len(pilot.app.screen.session.candidates) > 5


async def test_an_edited_recipe_or_a_preset_that_does_not_fit_starts_only_after_a_question(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path, launched: list[Recipe]
) -> None:
    machine(1)
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("y")
        await sees(pilot, "✓ fits: peak")
        await pilot.press("e")
        editor = pilot.app.screen.query_one("#editor")
        tree = yaml.safe_load(editor.text)
        tree["training"]["micro_batch"] = 512
        editor.text = yaml.safe_dump(tree)
        await pilot.press("ctrl+s")
        await sees(pilot, "✗ does not fit: peak")
        await pilot.press("s")
        await sees(pilot, "predicted not to fit")
        await pilot.press("escape", "p", *"chat-80", "enter")
        await sees(pilot, "✗ does not fit: peak")
        await pilot.press("a")
        await sees(pilot, "predicted not to fit")
        assert not launched
        await pilot.press("y")
        await until(pilot, lambda: len(launched) == 1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "just words",
        "model: x\ndata: y\nnonsense: 1",
        pytest.param("[" * 1000 + "]" * 1000, id="deep"),
        "name: 2020-13-45",
        pytest.param(f"data: {'9' * 5000}", id="long number"),
        "name: \x1b[31m",
        "!!python/object/apply:os.system ['id']",
        "data: &a {train: *a}",
        "model: x\ndata: y\ntraining: {epochs: .inf}",
        "model: x\n---\nmodel: y",
    ],
)
def test_a_bad_recipe_is_one_sentence(text: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe_from(text)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("size", SIZES)
async def test_the_same_run_elsewhere_follows_the_row(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path, size: tuple[int, int]
) -> None:
    machine(1)
    async with opened(size, deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        if size[0] < 150:
            assert "rented GPU" not in shown(pilot)
            await pilot.press("o")
        await sees(pilot, "On a rented GPU, prices of 20")
        await sees(pilot, "At a service, prices of 20")
        await sees(pilot, "Together")
        block = pilot.app.screen.query_one(Elsewhere)
        first = "\n".join(line.plain for line in block.build(70))
        assert "H100 SXM" in first
        await pilot.press("E")
        assert "\n".join(line.plain for line in block.build(70)) != first
        if size[0] < 150:
            for way_back in ("o", "escape"):
                await pilot.press(way_back)
                await sees(pilot, "micro-batch")
                assert "rented GPU" not in shown(pilot)
                await pilot.press("o")
                await sees(pilot, "rented GPU")


async def test_words_leave_only_some_models_and_escape_shows_all(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        every = len(screen.session.candidates)
        await pilot.press("slash", *"qwen3 <5b")
        await sees(pilot, "Only “qwen3 <5b” is shown")
        ids = {candidate.model.id for candidate in screen.session.candidates}
        assert "Qwen/Qwen3-4B" in ids
        assert all("Qwen3" in one and "8B" not in one for one in ids)
        await pilot.press("enter", "down", "R")
        assert screen.selected.model.id in ids
        await pilot.press("escape")
        await until(pilot, lambda: len(screen.session.candidates) == every)
        await pilot.press("slash", *"zzz")
        await sees(pilot, "0 of")
        assert screen.selected is None
        await pilot.press("escape")
        await until(pilot, lambda: len(screen.session.candidates) == every)


async def test_a_price_is_there_again_in_the_next_session(opened: Open, tiny_rows: Path) -> None:
    for session in range(2):
        async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
            await sees(pilot, "★")
            if session == 0:
                await pilot.press("dollar_sign", *"1.25", "enter")
            await sees(pilot, "$1.25 an hour")
            await sees(pilot, "Cost")
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "$1.25 an hour")
        await pilot.press("dollar_sign", "enter")
        await until(pilot, lambda: "an hour" not in shown(pilot))


async def test_any_method_can_take_the_place_of_the_one_that_is_offered(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path, launched: list[Recipe]
) -> None:
    machine(1)
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        before = screen.selected
        await pilot.press("M")
        await sees(pilot, "by which method?")
        await sees(pilot, "Esc leave it")
        await pilot.press("end")
        await sees(pilot, "P-tuning: vectors before the first token")
        await pilot.press("escape", "M", "home", *["down"] * list(METHODS).index("vera"), "enter")
        await until(pilot, lambda: screen.selected.method == "vera")
        assert screen.selected.model == before.model
        assert screen.selected.hyper.rank == 256
        await sees(pilot, "☆  Qwen")
        await pilot.press("s")
        if not screen.selected.fits:
            await sees(pilot, "predicted not to fit")
            await pilot.press("y")
        await until(pilot, lambda: len(launched) == 1)
        assert launched[0].method.name == "vera"
        assert launched[0].training.learning_rate == 4e-3
        await pilot.press("3", "u")
        await until(pilot, lambda: screen.selected == before)


async def test_a_knob_that_a_method_has_not_says_so(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        for method, key, words in (
            ("ia3", "R", "IA3 has no rank"),
            ("ia3", "T", "IA3 has its own places"),
            ("prompt", "f", "A soft prompt stands before every row"),
            ("prefix", "c", "does not go with gradient checkpointing"),
            ("pissa", "b", "PiSSA trains on a base of 16 bits only"),
        ):
            screen._replace(with_method(screen.selected, method))
            await pilot.press(key)
            await until(pilot, lambda words=words: words in said(pilot))
        screen._replace(with_method(screen.selected, "dora"))
        await pilot.press("b")
        assert screen.selected.hyper.bits == 4
        await pilot.press("f", "T", "full_stop")
        assert screen.session.recipe(screen.selected).training.packing is True
        assert screen.selected.hyper.targets == "attention-all"
        assert screen.selected.gradient_accumulation > 1
        recipe = screen.session.recipe(screen.selected)
        assert (recipe.method.bits, recipe.method.target_modules) == (4, "attention-all")
        screen._replace(with_method(screen.selected, "prompt"))
        await pilot.press("R")
        assert screen.selected.hyper.virtual_tokens == 50
        screen._replace(with_method(screen.selected, "last-layers"))
        await pilot.press("R")
        assert screen.session.recipe(screen.selected).method.layers == 4


async def test_a_key_makes_the_rows_once_and_leaves_the_layout(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(1)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen, looked_at, heights = pilot.app.screen, [], set()
        monkeypatch.setattr("tui.plan_session.matches", lambda *args: looked_at.append(1) or True)
        details = screen.query_one("#details")
        await pilot.press("c")
        for knob in ("c", "R", "c", "r", "E"):
            looked_at.clear()
            await pilot.press(knob)
            assert len(looked_at) == len(screen.session.candidates)
            heights.add(details.size.height)
        assert len(heights) == 1


async def test_a_knob_stops_at_its_end_and_says_so_once(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        context = screen.selected.model.shape.context
        screen._replace(retune(screen.selected, seq_length=context - 1))
        await pilot.press(*["right_square_bracket"] * 4)
        assert screen.selected.seq_length == context
        await until(pilot, lambda: f"was made for {context:,} tokens" in said(pilot))
        screen._replace(retune(screen.selected, seq_length=128))
        await pilot.press(*["left_square_bracket"] * 4)
        assert screen.selected.seq_length == 64
        await until(pilot, lambda: "The length goes no lower here" in said(pilot))
        assert len(pilot.app._notifications) == 1
        screen._replace(retune(screen.selected, seq_length=40, learning_rate=0.1))
        await pilot.press("left_square_bracket", "L")
        assert screen.selected.seq_length == 40, "no step to the other side"
        assert screen.selected.hyper.learning_rate == 0.1
        await until(pilot, lambda: "The learning rate goes no higher" in said(pilot))


async def test_the_objective_follows_the_rows_and_can_be_changed(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    deck = deck_with(tiny_rows)
    assert deck.report is not None
    deck.report = replace(deck.report, format="preference")
    async with opened((120, 36), deck, "plan") as pilot:
        await sees(pilot, "★")
        await sees(pilot, "DPO")
        screen = pilot.app.screen
        assert screen.selected.hyper.learning_rate < 1e-5
        seen = []
        for _ in range(4):
            now = screen.session.plan
            seen.append(screen.session.recipe(screen.selected).objective.name)
            await pilot.press("O")
            await until(pilot, lambda now=now: screen.session.plan is not now)
        assert seen == ["dpo", "kto", "orpo", "sft"]


async def test_several_gpus_train_together_at_a_key(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(2)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        await pilot.press("w")
        await sees(pilot, "copies (ddp)")
        recipe = screen.session.recipe(screen.selected)
        assert (recipe.hardware.gpus, recipe.hardware.gpu) == (2, "auto")
        await pilot.press("w")
        await until(pilot, lambda: "2 GPUs" not in shown(pilot))
    machine(1)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("w")
        await until(pilot, lambda: "not several GPUs" in said(pilot))


async def test_how_gpus_hold_the_model_is_turned_with_its_memory(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(2)
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        await pilot.press("W")
        await until(pilot, lambda: "w chooses how many" in said(pilot))
        assert screen.selected.sharding == "auto"
        await pilot.press("w")
        await sees(pilot, "copies (ddp)")
        screen._replace(with_method(screen.selected, "lora"))
        copies = screen.selected
        await pilot.press("W")
        await sees(pilot, "parts (fsdp)")
        parts = screen.selected
        assert parts.prediction.peak < copies.prediction.peak
        recipe = screen.session.recipe(parts)
        assert (recipe.hardware.gpus, recipe.hardware.sharding) == (2, "fsdp")
        await pilot.press("f")
        await until(pilot, lambda: "hold parts of the model pack no rows" in said(pilot))
        await pilot.press("W", "b")
        assert screen.selected.sharding == "auto", "ZeRO-3 goes with 16 bits only"
        screen._replace(with_method(parts, "qlora"))
        assert screen.selected.sharding == "fsdp"
        await pilot.press("W")
        await until(pilot, lambda: "ZeRO-3 cannot split a base in 4 bits" in said(pilot))
        assert screen.selected.sharding == "ddp"
        screen._replace(with_method(screen.selected, "adalora"))
        await pilot.press("W")
        await until(pilot, lambda: "AdaLoRA trains on whole copies" in said(pilot))


async def test_where_the_values_are_from_is_read_below_them(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press(*["J"] * 12)
        await sees(pilot, "arXiv 2305.14314")


async def test_one_model_shows_all_choices_and_each_keeps_its_own_turns(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        screen._take_model("Qwen/Qwen3-8B")
        await sees(pilot, "Only Qwen/Qwen3-8B is shown")
        rows = screen.session.candidates
        assert len(rows) > 3
        await pilot.press("home", "down", "E")
        assert screen.session.candidates[1].hyper.epochs > rows[1].hyper.epochs
        assert screen.session.candidates[0] == rows[0]
        assert screen.session.candidates[2:] == rows[2:]


def said(pilot: Pilot[None]) -> str:
    """All notices so far, unwrapped."""
    return "\n".join(notice.message for notice in pilot.app._notifications)


async def test_a_run_started_detached_leaves_the_plan_in_front(
    opened: Open, tiny_rows: Path, launched: list[Recipe]
) -> None:
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("d")
        await until(pilot, lambda: "has started" in said(pilot))
        assert len(launched) == 1
        assert pilot.app.current_mode == "plan"
        await pilot.press("a")
        await until(pilot, lambda: "waits for the runs before it" in said(pilot))
        assert len(launched) == 2


async def test_a_recipe_is_kept_as_a_preset_and_listed_first(
    opened: Open, tiny_rows: Path, launched: list[Recipe]
) -> None:
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("R", "y", "p")
        await pilot.press(*"Lamps 2", "enter")
        await sees(pilot, "Kept as lamps-2")
        await pilot.press("p", *"lamps-2", "enter")
        await sees(pilot, "already")
        await pilot.press("escape", "escape", "p")
        await sees(pilot, "lamps-2")
        await sees(pilot, "chat-24gb")
        await pilot.press(*"lamps", "enter")
        await sees(pilot, "version: 1")
        await pilot.press("s")
        await until(pilot, lambda: len(launched) == 1)
        (kept,) = (load_recipe(path) for path in own_presets().glob("*.yaml"))
        assert launched[0].method == kept.method
        assert launched[0].data.train == [str(tiny_rows)]


async def test_presets_for_other_rows_come_last_and_are_refused(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("p")
        await sees(pilot, "chat-24gb")
        await pilot.press(*"prefer-24")
        await sees(pilot, "other rows")
        await pilot.press("enter")
        await until(pilot, lambda: "DPO needs rows with" in said(pilot))
        assert "Begin with which preset?" in shown(pilot)


async def test_the_learning_rate_and_the_optimiser_turn_too(
    opened: Open, machine: Callable[[int], None], tiny_rows: Path
) -> None:
    machine(1)
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        screen = pilot.app.screen
        before = screen.selected
        await pilot.press("L", "x")
        after = screen.selected
        assert after.hyper.learning_rate > before.hyper.learning_rate
        assert after.optimizer == "adamw-8bit"
        assert after.prediction.parts.optimizer < before.prediction.parts.optimizer
        recipe = screen.session.recipe(after)
        assert recipe.training.learning_rate == after.hyper.learning_rate
        assert recipe.training.optimizer == "adamw-8bit"


async def test_a_model_on_this_machine_is_marked(
    opened: Open, tiny_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "core.models.catalogue._is_cached", lambda model: model == "Qwen/Qwen2.5-0.5B"
    )
    async with opened((120, 36), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        await pilot.press("slash", *"here")
        await until(pilot, lambda: len(pilot.app.screen.session.candidates) == 2)
        await sees(pilot, "• Qwen2.5-0.5B")
        await sees(pilot, "494M parameters, on this machine")


async def test_a_quick_trial_starts_the_recipe_cut_short(
    opened: Open, tiny_rows: Path, launched: list[Recipe]
) -> None:
    async with opened((80, 24), deck_with(tiny_rows), "plan") as pilot:
        await sees(pilot, "★")
        candidate = pilot.app.screen.selected
        await pilot.press("t")
        await until(pilot, lambda: pilot.app.current_mode == "train")
        (recipe,) = launched
        assert recipe.trial
        assert recipe.model.id == candidate.model.id
