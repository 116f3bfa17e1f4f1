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
    assert [m["content"] for m in load_transcript(transcript.path).messages()] == ["one", "two"]


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


def test_lines_are_plain_json(tmp_path):
    transcript = new_transcript(tmp_path)
    transcript.ask("x")
    kinds = [json.loads(line)["kind"] for line in transcript.path.read_text().splitlines()]
    assert kinds == ["transcript", "message"]
