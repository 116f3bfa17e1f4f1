"""The chat with a real child process and a tiny model that talks without end."""

from __future__ import annotations

import json
import os
import re
import signal
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from core.chat.events import Loading, Turn
from core.chat.session import ChatSettings
from core.chat.transcript import load_transcript, new_transcript
from core.chat.trials import trials
from core.errors import UserError
from tests.core.babbler import write_model
from tests.tui.conftest import Open, sees
from tests.tui.fake_runs import finished_run, make_run, shown, until
from tests.tui.test_train import still_machine  # noqa: F401
from tui.app import TuneDeck
from tui.deck import Deck
from tui.screens.chat_settings import read_settings
from tui.widgets.chat_lines import closing_line, error_line, loading_line, ready_line
from tui.widgets.conversation import Conversation, Entry
from tui.widgets.prompt import Prompt

PROMPTS = ["switch the lamp on", "switch the heater off", "what now?"]


@pytest.fixture(scope="module")
def babbler(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("babbler") / "model")


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """Talks for a minute and longer, where `never_ending` lets it."""
    return write_model(tmp_path_factory.mktemp("endless") / "model", context=65_536)


def never_ending(pilot) -> None:
    """No answer ends by itself while a test looks at it, however long the test is kept waiting."""
    screen = pilot.app.screen
    screen._settings = replace(screen._settings, max_new_tokens=60_000)


def trained(root: Path, model: Path | None, *, name="spoken-json", base: Path | None = None):
    """A finished run whose merged model is `model`, with three held-out prompts."""
    run = make_run(root, name, model=str(base or model or "org/none"))
    if model is not None:
        run.merged.symlink_to(model)
    run.data.mkdir()
    rows = [
        {
            "number": number,
            "messages": [{"role": "user", "content": prompt}],
            "tools": [],
            "reference": f"reference {number}",
        }
        for number, prompt in enumerate(PROMPTS, 1)
    ]
    (run.data / "heldout.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run


@asynccontextmanager
async def chat(run, size=(100, 30), *, ready=True):
    app = TuneDeck(Deck(run=run), "chat")
    async with app.run_test(size=size, notifications=True) as pilot:
        await pilot.pause()
        if ready:
            await until(pilot, lambda: "✓ ready" in shown(pilot), 60)
        yield pilot


def answer(pilot) -> str:
    return pilot.app.screen._entries[-1].texts.get("tuned", "")


async def test_an_answer_streams_in_and_escape_stops_it(tmp_path, endless):
    run = trained(tmp_path, endless)
    async with chat(run, (80, 24)) as pilot:
        assert "65,536 tokens of context" in shown(pilot)
        never_ending(pilot)
        await pilot.press(*"say 1 2 3", "enter")
        await until(pilot, lambda: len(answer(pilot)) > 5, 20)
        first = len(answer(pilot))
        await until(pilot, lambda: len(answer(pilot)) > first, 20)
        assert "esc stops it" in shown(pilot)
        await pilot.press("escape")
        await until(pilot, lambda: "stopped by you" in shown(pilot), 20)
        text = shown(pilot)
        assert "you    say 1 2 3" in text
        assert "tokens/s" in text
        assert "✓ ready" in text
        await pilot.press("escape", "5")
        assert pilot.app.current_mode == "result", "outside of the input, digits change the place"
        child = pilot.app.get_screen_stack("chat")[0]._session._client._child
    assert child.wait(10) is not None, "the child ends with the app"
    (path,) = run.chat.glob("*.jsonl")
    roles = [line["role"] for line in load_transcript(path).lines]
    assert roles == ["user", "assistant"]


async def test_ctrl_c_ends_the_answer_before_it_ends_the_app(tmp_path, endless):
    run = trained(tmp_path, endless)
    async with chat(run) as pilot:
        never_ending(pilot)
        await pilot.press(*"hello", "enter")
        await until(pilot, lambda: len(answer(pilot)) > 5, 20)
        await pilot.press("ctrl+c")
        await until(pilot, lambda: "stopped by you" in shown(pilot), 20)
        await until(pilot, lambda: "✓ ready" in shown(pilot), 20)
        assert pilot.app.is_running
        await pilot.press("ctrl+c")
        await until(pilot, lambda: not pilot.app.is_running, 20)


async def test_a_question_that_waits_for_the_model_can_be_taken_back(tmp_path, babbler):
    run = trained(tmp_path, babbler)
    async with chat(run, ready=False) as pilot:
        await pilot.press(*"hello", "enter", "escape")
        await until(pilot, lambda: "not answered" in shown(pilot), 60)
        await until(pilot, lambda: "✓ ready" in shown(pilot), 60)
        assert answer(pilot) == ""
        await pilot.press(*"again", "enter")
        await until(pilot, lambda: len(answer(pilot)) > 5, 20)
        await pilot.press("escape")
        await until(pilot, lambda: "stopped by you" in shown(pilot), 20)


async def test_a_system_prompt_goes_with_its_conversation(tmp_path, babbler):
    run = trained(tmp_path, babbler)
    old = new_transcript(run.chat, system="Be brief.")
    old.ask("hello")
    async with chat(run) as pilot:
        screen = pilot.app.screen
        screen._set(ChatSettings(system="Speak up.", max_new_tokens=2))
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: "tokens/s" in shown(pilot), 20)
        assert load_transcript(screen._transcript.path).system == "Speak up."
        screen._load(old.path)
        assert (screen._settings.system, screen._settings.max_new_tokens) == ("Be brief.", 2)


async def test_the_answer_is_compared_with_the_held_out_row_and_the_base(tmp_path, babbler):
    other = write_model(tmp_path / "base", seed=7)
    run = trained(tmp_path / "runs", babbler, base=other)
    async with chat(run, (120, 36), ready=False) as pilot:
        pilot.app.screen._set(ChatSettings(max_new_tokens=12))
        await pilot.press("ctrl+b")
        await until(pilot, lambda: "base beside it" in shown(pilot), 60)
        await pilot.press("up")
        assert pilot.app.screen.query_one(Prompt).text == PROMPTS[0]
        await pilot.press("enter")
        entry = pilot.app.screen._entries[-1]
        await until(pilot, lambda: len(entry.closings) == 2, 30)
        await until(pilot, lambda: shown(pilot).count("row has: reference 1") == 2, 3)
        assert "reached the token limit" in entry.closings["base"].plain
        texts = entry.texts
        assert texts["base"] != texts["tuned"]


async def test_up_brings_what_can_be_said_and_what_was_said(tmp_path):
    run = trained(tmp_path, None)
    async with chat(run, ready=False) as pilot:
        prompt = pilot.app.screen.query_one(Prompt)
        seen = []
        for _ in range(4):
            await pilot.press("up")
            seen.append(prompt.text)
        assert seen == [*PROMPTS, PROMPTS[-1]]
        await pilot.press("down", "down", "down")
        assert prompt.text == ""
        prompt.said("mine")
        await pilot.press("up")
        assert prompt.text == "mine"


async def test_the_input_takes_digits_and_lines_and_enter_sends_nothing_empty(tmp_path):
    run = trained(tmp_path, None)
    async with chat(run, ready=False) as pilot:
        prompt = pilot.app.screen.query_one(Prompt)
        await pilot.press("enter", "space", "enter")
        assert len(pilot.app.screen._entries) == 1
        await pilot.press(*"15?q", "ctrl+j", "6")
        assert prompt.text.strip() == "15?q\n6"
        assert pilot.app.current_mode == "chat"
        assert not run.chat.exists()


async def test_a_run_without_a_model_is_one_sentence_and_a_way_out(tmp_path):
    run = trained(tmp_path, None)
    async with chat(run, (80, 24), ready=False) as pilot:
        await until(pilot, lambda: "has no trained model yet" in shown(pilot), 20)
        assert "ctrl+r tries again" in shown(pilot)
        await pilot.press("h", "i", "enter")
        await until(pilot, lambda: "There is no model to ask" in shown(pilot), 3)


async def test_a_killed_child_is_told_and_can_be_started_again(tmp_path, babbler):
    async with chat(trained(tmp_path, babbler)) as pilot:
        await pilot.press("g", "o", "enter")
        await until(pilot, lambda: len(answer(pilot)) > 2, 20)
        os.kill(pilot.app.screen._session._client._child.pid, signal.SIGKILL)
        await until(pilot, lambda: "The chat was killed" in shown(pilot), 20)
        await pilot.press("ctrl+r")
        await until(pilot, lambda: "▸ starting" in shown(pilot), 20)


async def test_the_child_ends_when_another_run_is_opened(tmp_path, babbler):
    first, second = trained(tmp_path / "a", babbler), trained(tmp_path / "b", None)
    async with chat(first, ready=False) as pilot:
        await until(pilot, lambda: pilot.app.screen._session._client is not None)
        child = pilot.app.screen._session._client._child
        await pilot.press("escape", "4")
        await pilot.pause(0.3)
        assert child._process.poll() is None, "another place in front is no reason to end"
        pilot.app.deck.run = second
        await pilot.press("6")
        await until(pilot, lambda: child._process.poll() is not None)
        assert "switch the lamp on" in shown(pilot)


async def test_conversations_are_kept_listed_and_loaded(tmp_path):
    run = trained(tmp_path, None)
    kept = new_transcript(run.chat)
    kept.ask("what did I say?")
    kept.answer(Turn("tuned", "You said [b]\x1b[31mthis.", "stop", 4, 1.0, 4.0, 0.1, 9))
    async with chat(run, ready=False) as pilot:
        await pilot.press("ctrl+l")
        await pilot.pause()
        assert "what did I say?" in shown(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "tuned  You said [b]␛[31mthis." in shown(pilot), 3)
        await pilot.press("ctrl+n")
        await until(pilot, lambda: "Held-out prompts to try" in shown(pilot), 3)


async def test_settings_are_changed_in_a_form(tmp_path):
    async with chat(trained(tmp_path, None), (80, 24), ready=False) as pilot:
        screen = pilot.app.screen
        await pilot.press("ctrl+t", "end", "backspace", "backspace", "backspace", *"9", "enter")
        await pilot.pause()
        assert "The temperature is a number, 0 to 5." in shown(pilot)
        await pilot.press("backspace", *"0.5", "down", "down", "enter")
        await pilot.pause()
        assert screen._settings == ChatSettings(temperature=0.5)
        assert "temperature 0.5 · at most 512 tokens" in shown(pilot)


async def test_without_a_run_it_says_what_to_do():
    async with chat(None, (80, 24), ready=False) as pilot:
        assert "Press 1 for Home" in shown(pilot)


async def test_a_growing_answer_repaints_only_its_last_lines(tmp_path, monkeypatch):
    async with chat(trained(tmp_path, None), ready=False) as pilot:
        conversation = pilot.app.screen.query_one(Conversation)
        entry = Entry("answer", {"tuned": "one two three " * 30})
        conversation.show([Entry("you", {"you": "hello"}), entry])
        await pilot.pause()
        regions = []
        monkeypatch.setattr(conversation, "refresh", lambda *parts, **_: regions.extend(parts))
        entry.texts["tuned"] += "four"
        conversation.grew()
        assert [region.height for region in regions] == [1]


def rows_in(text: str) -> list[str]:
    """The conversation's rows, without the scrollbar."""
    return [f"row {row}" for row in re.findall(r"row (\d+)", text)]


async def test_who_has_scrolled_up_is_left_there(tmp_path):
    async with chat(trained(tmp_path, None), (80, 24), ready=False) as pilot:
        await until(pilot, lambda: "has no trained model yet" in shown(pilot))
        conversation = pilot.app.screen.query_one(Conversation)
        entry = Entry("answer", {"tuned": "\n".join(f"row {n}" for n in range(100))})
        conversation.show([entry])
        await pilot.pause()
        assert "row 99" in shown(pilot)
        await pilot.press("pageup", "pageup", "pageup")
        await pilot.pause()
        before = rows_in(shown(pilot))
        assert before
        assert "row 99" not in before
        entry.texts["tuned"] += "\nrow 100"
        conversation.grew()
        await pilot.pause()
        assert rows_in(shown(pilot)) == before


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"temperature": "hot"}, "temperature is a number"),
        ({"temperature": "nan"}, "temperature is a number"),
        ({"max_new_tokens": "0"}, "at least 1 token"),
        ({"max_new_tokens": "1.5"}, "whole number"),
        ({"seed": "-1"}, "whole number from 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_sentence(values, sentence):
    good = {"temperature": "1", "max_new_tokens": "5", "seed": "7", "system": " be brief "}
    assert read_settings(good) == ChatSettings(1.0, 5, 7, "be brief")
    with pytest.raises(ValueError, match=sentence):
        read_settings({**good, **values})


def test_held_out_prompts_that_can_be_typed(tmp_path):
    run = make_run(tmp_path)
    assert trials(run) == []
    run.data.mkdir()
    user = {"role": "user", "content": "hi"}
    rows = [
        {"messages": [user], "reference": "a"},
        {"messages": [{"role": "system", "content": "S"}, user], "reference": "b"},
        {"messages": [user, {"role": "assistant", "content": "x"}, user], "reference": "c"},
        {"messages": [user], "reference": "d", "tools": [{"name": "t"}]},
        {"messages": []},
        7,
    ]
    lines = [json.dumps(row) for row in rows] + ["{torn"]
    (run.data / "heldout.jsonl").write_text("\n".join(lines))
    assert [(t.prompt, t.reference, t.system) for t in trials(run)] == [
        ("hi", "a", None),
        ("hi", "b", "S"),
    ]


def test_the_lines_around_a_conversation():
    turn = Turn("tuned", "yes ", "length", 12, 2.0, 6.0, 0.2, 30)
    assert closing_line(turn, "yes").plain.startswith("✓ as in the held-out row")
    assert "reached the token limit · 12 tokens · 2.0 s" in closing_line(turn, None).plain
    assert loading_line(Loading("loading", 3.2, text="merged"), 4.4)[0].plain.startswith(
        "▸ loading the model  4 s"
    )
    download = Loading("downloading", 3.0, 1024**2, 2 * 1024**2, "model.safetensors")
    assert "1.00 MiB of 2.00 MiB" in loading_line(download, 3.0)[0].plain
    assert "base beside it" in ready_line(Loading("ready", 1, device="cpu"), compare=True)[0].plain
    lines = error_line(UserError("Bad\x1b.", "Do that."), again=True)
    assert [line.plain for line in lines] == ["✗ Bad␛.", "Do that. ctrl+r tries again."]


def test_the_chat_looks_as_it_should(tmp_path, monkeypatch, snap_compare):
    monkeypatch.chdir(tmp_path)
    run = finished_run(Path("runs"))
    kept = new_transcript(run.chat)
    for who, text in (("tuned", '{"lamp": 4, "on": true}'), ("base", "Sure! I can help you. " * 9)):
        if who == "tuned":
            kept.ask("switch lamp 4 on, please")
        kept.answer(Turn(who, text, "stop", 12, 1.0, 12.0, 0.1, 30))

    async def load(pilot):
        await until(pilot, lambda: "no trained model" in shown(pilot))
        await pilot.press("ctrl+l", "enter")
        await pilot.pause()

    assert snap_compare(TuneDeck(Deck(run=run), "chat"), terminal_size=(120, 36), run_before=load)


async def test_without_a_run_the_digits_lead_away(opened: Open) -> None:
    async with opened((80, 24)) as pilot:
        await pilot.press("6")
        await sees(pilot, "No run is open")
        await pilot.press("1")
        await sees(pilot, "No runs yet")
