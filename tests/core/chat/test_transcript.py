"""Transcripts survive whatever ends the app."""

from __future__ import annotations

import json

import pytest

from core.chat.events import Turn
from core.chat.transcript import list_transcripts, load_transcript, new_transcript
from core.errors import UserError


def turn(who, text):
    return Turn(who, text, "stop", 3, 0.5, 6.0, 0.1, 12)


def test_every_turn_is_on_disk_at_once_and_can_be_continued(tmp_path):
    transcript = new_transcript(tmp_path / "chat", system="Be brief.")
    assert not (tmp_path / "chat").exists()
    transcript.ask("Who’s there? \x1b[31m")
    transcript.answer(turn("base", "nobody"))
    transcript.answer(turn("tuned", "it is I"))
    again = load_transcript(transcript.path)
    assert again.system == "Be brief."
    assert again.messages("tuned") == [
        {"role": "user", "content": "Who’s there? \x1b[31m"},
        {"role": "assistant", "content": "it is I"},
    ]
    assert again.messages("base")[1]["content"] == "nobody"
    again.ask("Why?")
    assert len(load_transcript(transcript.path).lines) == 4


def test_a_torn_last_line_is_left_out_and_mended(tmp_path):
    transcript = new_transcript(tmp_path)
    transcript.ask("one")
    with transcript.path.open("a") as file:
        file.write('{"v":1,"kind":"message","role":"assist')
    again = load_transcript(transcript.path)
    again.ask("two")
    assert [m["content"] for m in load_transcript(transcript.path).lines] == ["one", "two"]


def test_the_list_is_newest_first_with_the_first_question(tmp_path):
    for name, question in (("20250101-000000-aa", "old"), ("20260101-000000-aa", "new")):
        transcript = new_transcript(tmp_path)
        transcript.path = tmp_path / f"{name}.jsonl"
        transcript.ask(question)
    assert [each.first for each in list_transcripts(tmp_path)] == ["new", "old"]
    assert list_transcripts(tmp_path)[0].questions == 1
    assert list_transcripts(tmp_path / "none") == []


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot save the transcript"):
        new_transcript(tmp_path / "file" / "chat").ask("hello")


def test_a_full_disk_takes_nothing_from_the_conversation(tmp_path):
    (tmp_path / "file").write_text("")
    transcript = new_transcript(tmp_path / "file" / "chat")
    for say in (lambda: transcript.ask("one"), lambda: transcript.answer(turn("tuned", "1"))):
        with pytest.raises(UserError):
            say()
    assert [message["content"] for message in transcript.messages()] == ["one", "1"]
    transcript.path = tmp_path / "chat" / "later.jsonl"  # there is room again
    transcript.ask("two")
    assert load_transcript(transcript.path).messages()[-1]["content"] == "two"


def test_turns_alternate_for_each_model_whatever_went_unanswered(tmp_path):
    transcript = new_transcript(tmp_path)
    transcript.ask("too long for the model")
    transcript.ask("one")
    transcript.answer(turn("tuned", "1"))
    transcript.ask("two")
    transcript.answer(turn("base", "zwei"))
    transcript.answer(turn("tuned", ""))  # stopped before its first word
    transcript.ask("three")
    said = {who: [m["content"] for m in transcript.messages(who)] for who in ("tuned", "base")}
    assert said == {"tuned": ["one", "1", "three"], "base": ["two", "zwei", "three"]}


def test_lines_are_plain_json(tmp_path):
    transcript = new_transcript(tmp_path)
    transcript.ask("x")
    kinds = [json.loads(line)["kind"] for line in transcript.path.read_text().splitlines()]
    assert kinds == ["transcript", "message"]
