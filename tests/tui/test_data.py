"""Data against real files, through the real helper process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from textual.selection import Selection

from core.data.report import merged_bins
from core.data.rows import Opened, Page
from tests.tui.conftest import HOSTILE, SIZES, Open, sees, shown, until
from tui.app import TuneDeck
from tui.data_session import Source
from tui.deck import Deck
from tui.widgets.data_lines import head_lines
from tui.widgets.path_input import complete_path
from tui.widgets.row_pane import RowPane
from tui.widgets.row_table import RowTable


def turn(question: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def write(path: Path, rows: list[Any]) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    """Rows with something wrong, a few that are well, and one that attacks the terminal."""
    rows = [turn(f"Question number {i}?", f"Answer {i} it is.") for i in range(30)]
    return write(
        tmp_path / "flawed.jsonl", [turn(HOSTILE, f"fine {HOSTILE}"), "this is no json", *rows]
    )


def deck_for(path: Path, model: Path) -> Deck:
    return Deck(source=str(path), model=str(model))


@pytest.mark.parametrize("size", SIZES)
async def test_the_head_counts_and_the_rows_are_there(
    opened: Open, tiny_rows: Path, tiny_model: Path, size: tuple[int, int]
) -> None:
    async with opened(size, deck_for(tiny_rows, tiny_model), "data") as pilot:
        await sees(pilot, "96 usable")
        await sees(pilot, "trained (")
        await sees(pilot, "Please turn")
        text = shown(pilot)
        for words in ("messages", "96 rows", "p50", "p95", "Rows 96"):
            assert words in text
        app = pilot.app
        assert isinstance(app, TuneDeck)
        assert app.deck.report is not None
        assert app.deck.report.tokens is not None


async def test_tokens_show_what_is_trained(opened: Open, tiny_rows: Path, tiny_model: Path) -> None:
    async with opened((120, 36), deck_for(tiny_rows, tiny_model), "data") as pilot:
        await sees(pilot, "96 usable")
        await pilot.press("t")
        await sees(pilot, "as the training sees it")
        await sees(pilot, "✓ learns to stop")
        text = shown(pilot)
        assert "<|im_start|>" in text
        for kind in ("trained", "context", "special", "truncated"):
            assert kind in text
        await pilot.press("t")
        await sees(pilot, "rows.jsonl:1")


async def test_a_narrow_terminal_opens_the_row_in_place_and_escape_goes_back(
    opened: Open, tiny_rows: Path, tiny_model: Path
) -> None:
    async with opened((80, 24), deck_for(tiny_rows, tiny_model), "data") as pilot:
        await sees(pilot, "96 usable")
        await pilot.press("j", "enter")
        await sees(pilot, "rows.jsonl:2")
        assert "Prompt" not in shown(pilot)
        await pilot.press("escape")
        await sees(pilot, "Prompt")
        await pilot.press("escape")
        assert pilot.app.current_mode == "home"


def test_why_no_tokens_are_counted_is_read_to_its_end() -> None:
    opened = Opened("rows", ("rows",), 9, "messages", (), {}, ())
    source = Source("rows", {}, "org/model", 1024, opened=opened)
    note = f"No tokens are counted: Cannot prepare {'/a/long/path' * 6}: read-only. Do this."
    lines = [line.plain for line in head_lines(source, note, 78)]
    assert max(map(len, lines)) <= 78
    assert lines[-1].endswith("read-only. Do this.")


async def test_problems_lead_to_their_rows(opened: Open, flawed: Path, tiny_model: Path) -> None:
    async with opened((120, 36), deck_for(flawed, tiny_model), "data") as pilot:
        await sees(pilot, "31 usable")
        await pilot.press("right")
        await sees(pilot, "invalid-json")
        await sees(pilot, "✗ error")
        await pilot.press("enter")
        await sees(pilot, "only invalid-json")
        await sees(pilot, "Rows 1 ")
        await pilot.press("escape")
        await sees(pilot, "Rows 32")


async def test_a_problem_of_the_whole_source_is_read_and_leads_to_no_rows(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    path = tmp_path / "lists.json"
    one = [{"prompt": f"q{i}", "completion": "a"} for i in range(9)]
    path.write_text(json.dumps({"train": one, "test": one[:4], "more": one[:3]}))
    async with opened((80, 24), deck_for(path, tiny_model), "data") as pilot:
        await sees(pilot, "9 usable")
        await pilot.press("right")
        await sees(pilot, "unread-lists")
        codes = [problem.code for problem in pilot.app.deck.report.problems]
        await pilot.press(*["down"] * codes.index("unread-lists"), "enter")
        await sees(pilot, "more (3).")
        assert "shows only these rows" not in shown(pilot)
        await pilot.press("escape")
        await sees(pilot, "What it means")


async def test_hostile_rows_stay_text(opened: Open, flawed: Path, tiny_model: Path) -> None:
    async with opened((120, 36), deck_for(flawed, tiny_model), "data") as pilot:
        await sees(pilot, "31 usable")
        await sees(pilot, "it holds the control character")
        assert "日本語" in shown(pilot)
        assert not {"\x1b", "\u202e", "\x07"} & set(shown(pilot))
        await pilot.press("t")
        await sees(pilot, "as the training sees it")
        assert not {"\x1b", "\u202e", "\x07"} & set(shown(pilot))


async def test_finding_a_text_shows_only_its_rows(
    opened: Open, flawed: Path, tiny_model: Path
) -> None:
    async with opened((80, 24), deck_for(flawed, tiny_model), "data") as pilot:
        await sees(pilot, "31 usable")
        await pilot.press("slash", *"number 17", "enter")
        await sees(pilot, "Rows 1 ")
        await sees(pilot, "Answer 17")
        await pilot.press("escape")
        await sees(pilot, "Rows 32")


async def test_unknown_columns_are_mapped_by_the_user(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    rows = [{"ticket": f"My printer {i} is on fire", "reply": f"Water, {i} l"} for i in range(20)]
    path = write(tmp_path / "odd.jsonl", rows)
    async with opened((80, 24), deck_for(path, tiny_model), "data") as pilot:
        await sees(pilot, "Role (suggested)")
        entry = pilot.app.screen.query_one("#mapping")
        entry.value = "prompt=ticket completion=nothing"
        await sees(pilot, "There is no column “nothing”.")
        entry.value = "prompt=ticket completion=reply"
        await sees(pilot, "✓ 20 of the first 20 rows can be used with it")
        await sees(pilot, "answer Water, 1 l")
        await pilot.press("enter")
        await sees(pilot, "20 usable")
        app = pilot.app
        assert isinstance(app, TuneDeck)
        assert app.deck.mapping == {"prompt": "ticket", "completion": "reply"}


async def test_advice_says_why(opened: Open, tiny_rows: Path, tiny_model: Path) -> None:
    async with opened((80, 24), deck_for(tiny_rows, tiny_model), "data") as pilot:
        await sees(pilot, "96 usable")
        await pilot.press("right", "right", "right")
        await sees(pilot, "Collect more rows")
        await sees(pilot, "memorises")


async def test_escape_stops_the_pass_and_what_was_found_stays(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    """Only a second Escape leaves the place; r begins the pass anew."""
    rows = [turn(f"q{i} " + "word " * 100, f"a{i}") for i in range(20_000)]
    path = write(tmp_path / "long.jsonl", ["this is no json", *rows])
    async with opened((120, 36), deck_for(path, tiny_model), "data") as pilot:
        await sees(pilot, "stops")
        await sees(pilot, "Problems 1")
        await pilot.press("escape")
        await sees(pilot, "■ stopped after")
        assert "so far" in shown(pilot)
        assert pilot.app.current_mode == "data"
        await pilot.press("right")
        await sees(pilot, "invalid-json")
        await pilot.press("escape", "escape")
        assert pilot.app.current_mode == "home"
        await pilot.press("2", "r")
        await sees(pilot, "Esc stops")
        await pilot.press("x")
        await sees(pilot, "■ stopped after")


async def test_a_search_goes_on_until_the_last_row(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    count = 2_000
    rows = [turn(f"q{i}", "needle" if i == count - 1 else f"a{i}") for i in range(count)]
    path = write(tmp_path / "hay.jsonl", rows)
    async with opened((80, 24), Deck(source=str(path), model=str(tiny_model)), "data") as pilot:
        table, client = pilot.app.screen.query_one(RowTable), pilot.app.screen._session.client
        await until(pilot, lambda: table.count == count, 60)
        await pilot.press("slash", *"#1,901", "enter")
        await sees(pilot, "▸ 1,901")
        ask, asked = client.rows, Event()

        def first_in_vain(*place: int, **words: str) -> Page:
            """As when the rows are too many to be looked through at once."""
            page = ask(*place, **words)
            return page if asked.is_set() else replace(page, total=0, rows=(), complete=False)

        client.rows = first_in_vain
        await pilot.press("slash", *"NEEDLE", "enter")
        await sees(pilot, "looking for more …")
        assert table.count == 0
        asked.set()
        await sees(pilot, f"▸ {count:,}")
        await until(pilot, lambda: "looking for more" not in shown(pilot))
        assert table.count == 1


async def test_a_row_says_what_the_cut_takes_away(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    path = write(tmp_path / "long.jsonl", [turn("Say it.", "much to say " * 40)])
    deck = Deck(source=str(path), model=str(tiny_model), max_length=64)
    async with opened((120, 36), deck, "data") as pilot:
        await sees(pilot, "1 usable")
        await pilot.press("t")
        await sees(pilot, "✂ cut here")
        assert "The answer is cut: its last" in shown(pilot)
        assert "✗ does not learn to stop" in shown(pilot)


async def test_a_row_without_tokens_says_why_and_is_still_read(
    opened: Open, flawed: Path, tiny_model: Path
) -> None:
    async with opened((120, 36), deck_for(flawed, tiny_model), "data") as pilot:
        await sees(pilot, "31 usable")
        await pilot.press("down", "t")
        await sees(pilot, "No tokens: Row 2 is not usable")
        await sees(pilot, "this is no json")


async def test_a_cleaned_copy_is_saved_and_nothing_is_overwritten(
    opened: Open, flawed: Path, tiny_model: Path
) -> None:
    before = flawed.read_bytes()
    async with opened((120, 36), deck_for(flawed, tiny_model), "data") as pilot:
        await sees(pilot, "31 usable")
        await pilot.press("w")
        await sees(pilot, "The original stays as it is.")
        entry = pilot.app.screen.query_one("#asked-path")
        assert entry.value == str(flawed.with_name("flawed.clean.jsonl"))
        entry.value = str(flawed)
        await pilot.press("enter")
        await sees(pilot, "is not overwritten")
        entry.value = str(flawed.with_name("clean.jsonl"))
        await pilot.press("enter")
        await sees(pilot, "✓ 30 rows in")
        await sees(pilot, "2 left out (")
    assert flawed.read_bytes() == before
    assert len(flawed.with_name("clean.jsonl").read_text().splitlines()) == 30


async def test_lengths_are_drawn_and_the_cut_moves(
    opened: Open, tiny_rows: Path, tiny_model: Path
) -> None:
    async with opened((80, 24), deck_for(tiny_rows, tiny_model), "data") as pilot:
        await sees(pilot, "trained (")
        await pilot.press("right", "right")
        await sees(pilot, "Every row fits in 1,024 tokens.")
        await pilot.press("end")
        await sees(pilot, "★        128        0    0.0 %  recommended")
        await sees(pilot, "96  rows in all")
        await pilot.press("home")
        await pilot.press(*["left_square_bracket"] * 4)
        await sees(pilot, "cut at 64")
        app = pilot.app
        assert isinstance(app, TuneDeck)
        assert app.deck.max_length == 64


async def test_what_is_trained_is_chosen_and_one_stays_where_one_is(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    rows = [turn(f"q{n}", "a") for n in range(8)]
    for row in rows:
        row["messages"] += turn("more?", "More.")["messages"]
    path = write(tmp_path / "long.jsonl", rows)
    async with opened((120, 36), deck_for(path, tiny_model), "data") as pilot:
        app = pilot.app
        assert isinstance(app, TuneDeck)
        await sees(pilot, "8 usable")
        await pilot.press(*["down"] * 5, "t")
        await sees(pilot, "Row 6  as the training sees it")
        await pilot.press("a")
        await sees(pilot, "last answers only")
        await sees(pilot, "Only the last answer is trained.")
        assert "Row 6  as the training sees it" in shown(pilot)
        await pilot.press("a")
        await sees(pilot, "every token trained")
        assert app.deck.train_on == "all"
        await pilot.press("right", "right", "a")
        await until(pilot, lambda: "every token trained" not in shown(pilot))
        await sees(pilot, "8  rows in all")


async def test_rows_held_out_are_looked_for(
    opened: Open, tiny_rows: Path, tmp_path: Path, tiny_model: Path
) -> None:
    lines = tiny_rows.read_text(encoding="utf-8").splitlines()
    held_out = write(tmp_path / "held.jsonl", [*lines[:2], turn("Another?", "Another it is.")])
    async with opened((120, 36), deck_for(tiny_rows, tiny_model), "data") as pilot:
        app = pilot.app
        assert isinstance(app, TuneDeck)
        await sees(pilot, "96 usable")
        await pilot.press("e")
        await sees(pilot, "Rows of your own to evaluate on")
        entry = app.screen.query_one("#asked-path")
        entry.value = str(tmp_path / "gone.jsonl")
        await pilot.press("enter")
        await sees(pilot, "✗ There is no file")
        entry.value = str(held_out)
        await pilot.press("enter")
        await sees(pilot, "2 of 3 rows held out are here too: 2 to the letter, 0 nearly")
        assert app.deck.held_out == str(held_out)
        await pilot.press("right")
        await sees(pilot, "leakage")
        await pilot.press("left_square_bracket")  # it is compared again when read again
        await sees(pilot, "cut at 512")
        await sees(pilot, "2 of 3 rows held out")


async def test_what_a_folder_holds_out_by_name_is_compared_and_can_be_refused(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    rows = [turn(f"What is {n}?", f"It is {n}.") for n in range(30)]
    write(folder / "train.jsonl", rows)
    test = write(folder / "test.jsonl", [rows[3], turn("New?", "New!")])
    async with opened((80, 24), deck_for(folder, tiny_model), "data") as pilot:
        app = pilot.app
        assert isinstance(app, TuneDeck)
        await sees(pilot, "1 of 2 rows held out is here too")
        assert app.deck.eval_sources == [str(test)]
        await pilot.press("e")
        await until(pilot, lambda: app.screen.query("#asked-path"))
        entry = app.screen.query_one("#asked-path")
        assert entry.value == str(test)
        entry.value = ""
        await pilot.press("enter")
        await until(pilot, lambda: app.deck.report and "rows held out" not in shown(pilot))
        await sees(pilot, "A part of these rows is held out")
        assert app.deck.eval_sources == []
        assert app.deck.held_out == ""


async def test_the_figures_say_what_the_rows_are_like(
    opened: Open, tiny_rows: Path, tiny_model: Path
) -> None:
    async with opened((200, 50), deck_for(tiny_rows, tiny_model), "data") as pilot:
        await sees(pilot, "96 usable")
        await pilot.press("right", "right")
        for words in ("turns a row  p50 2", "trained a row", "96 user, 96 assistant", "languages",
                      "% shuffled", "96  rows in all", "0.0 %  recommended"):  # fmt: skip
            await sees(pilot, words)
        await pilot.press("right")
        await sees(pilot, "Zhou et al. 2023")


async def test_names_of_columns_and_files_are_drawn_and_not_obeyed(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    """Also in the lines that one types in, which hold them as they are."""
    evil = "\x1b[2J\x9b31m\u202e"
    path = tmp_path / f"{evil}.jsonl"
    write(path, [{f"kys{evil}": "q", f"vast{evil}": "a"}] * 3)
    async with opened((120, 36), deck_for(path, tiny_model), "data") as pilot:
        await sees(pilot, "3 of the first 3 rows can be used")
        assert "␛[2J�31m�" in shown(pilot)
        assert not set(shown(pilot)) & set(evil) - set("[2J31m")
        await pilot.press("enter")
        await sees(pilot, "3 usable")
        app = pilot.app
        assert isinstance(app, TuneDeck)
        assert app.deck.mapping == {"prompt": f"kys{evil}", "completion": f"vast{evil}"}


async def test_a_source_that_is_not_there_is_one_sentence(opened: Open, tmp_path: Path) -> None:
    async with opened((80, 24), Deck(source=str(tmp_path / "gone.jsonl")), "data") as pilot:
        await sees(pilot, "✗")
        assert "gone.jsonl" in "".join(shown(pilot).split())
        assert "Traceback" not in shown(pilot)
        await until(pilot, lambda: pilot.app.focused and pilot.app.focused.id == "path")


async def test_keys_without_a_source_say_what_to_do_first(opened: Open) -> None:
    async with opened((120, 36), start="data") as pilot:
        await sees(pilot, "the demo's rows")
        await pilot.press("t")
        await sees(pilot, "Open a source first")


async def test_a_path_is_typed_completed_and_opened(
    opened: Open, tiny_rows: Path, tiny_model: Path
) -> None:
    async with opened((120, 36), Deck(model=str(tiny_model)), "data") as pilot:
        await sees(pilot, "the demo's rows")
        await pilot.press("o")
        pilot.app.focused.value = str(tiny_rows)[:-4]
        await pilot.press("tab")
        await until(pilot, lambda: pilot.app.focused.value == str(tiny_rows))
        await pilot.press("enter")
        await sees(pilot, "96 usable")


async def test_a_hundred_thousand_rows_scroll(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    count = 100_000
    path = write(tmp_path / "many.jsonl", [turn(f"q{i}", f"a{i}") for i in range(count)])
    async with opened((80, 24), Deck(source=str(path), model=str(tiny_model)), "data") as pilot:
        table = pilot.app.screen.query_one(RowTable)
        await until(pilot, lambda: table.count == count, 60)
        pilot.app.screen.action_give_up()
        await pilot.press("end")
        await sees(pilot, f"q{count - 1}")
        await pilot.press("pageup", "home")
        await sees(pilot, "q0 ")


async def test_rows_that_come_and_rows_that_are_read_lay_nothing_out_anew(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    """A layout of the screen costs as much as all else that a key does."""
    path = write(
        tmp_path / "many.jsonl", [turn(f"Question {i}?", f"{i} it is.") for i in range(900)]
    )
    async with opened((120, 36), deck_for(path, tiny_model), "data") as pilot:
        await sees(pilot, "900 usable")
        await sees(pilot, "Question 0?")
        table, layouts = pilot.app.screen.query_one(RowTable), []
        await pilot.pause(0.3)
        screen = pilot.app.screen
        screen.screen_layout_refresh_signal.subscribe(screen, lambda _: layouts.append(1))
        table.grow(950)
        await pilot.press("j")
        await sees(pilot, "many.jsonl:2")
        assert table.count == 950
        assert table.max_scroll_y == 950 + 1 - table.size.height
        assert not layouts


async def test_the_text_of_a_row_can_be_selected_and_scrolled(
    opened: Open, tmp_path: Path, tiny_model: Path
) -> None:
    words = " ".join(f"word{i}" for i in range(900))
    path = write(tmp_path / "long.jsonl", [turn("Say much.", words)])
    async with opened((120, 36), deck_for(path, tiny_model), "data") as pilot:
        await sees(pilot, "long.jsonl:1")
        pane = pilot.app.screen.query_one(RowPane)
        assert "word899" not in shown(pilot)
        pane.focus()
        await pilot.press("G")
        await sees(pilot, "word899")
        assert pane.get_selection(Selection(None, None))[0].endswith("word899")


def test_a_path_is_completed_as_far_as_it_is_certain(tmp_path: Path) -> None:
    for name in ("train.jsonl", "train-2.jsonl", "notes.md", ".hidden.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    certain, names = complete_path(f"{tmp_path}/t")
    assert certain == f"{tmp_path}/train"
    assert names == ["train-2.jsonl", "train.jsonl"]
    assert complete_path(f"{tmp_path}/m") == (f"{tmp_path}/more/", ["more/"])
    assert complete_path(f"{tmp_path}/nothing") == (f"{tmp_path}/nothing", [])
    assert complete_path("/no/such/folder/x") == ("/no/such/folder/x", [])


def test_merged_bins_keep_every_row() -> None:
    bins = [(10 * i, i) for i in range(1, 25)]
    merged = merged_bins(bins, 7)
    assert len(merged) <= 7
    assert sum(rows for _, rows in merged) == sum(rows for _, rows in bins)
    assert merged[-1][0] == 240
