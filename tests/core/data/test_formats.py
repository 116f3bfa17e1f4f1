"""Every format is recognised from its columns and content, and becomes the same examples."""

from __future__ import annotations

import json
from typing import Any

import pytest

from core.data.conversation import Unusable
from core.data.examples import Conversation, Judged, Preference, Record, Text
from core.data.formats import Recogniser, normalise, recognise, suggest
from core.errors import UserError

USER = {"role": "user", "content": "q"}
ASSISTANT = {"role": "assistant", "content": "a"}
SYSTEM = {"role": "system", "content": "s"}
CALL = {
    "type": "function",
    "function": {"name": "f", "arguments": {"x": 1}},
}
PLAIN = Conversation((USER, ASSISTANT))


def read(value: dict[str, Any], mapping: dict[str, str] | None = None) -> tuple[str, Any]:
    layout = Recogniser(mapping).layout(value)
    return layout.format, normalise(value, layout)


@pytest.mark.parametrize(
    ("value", "format", "expected"),
    [
        ({"messages": [USER, ASSISTANT]}, "messages", PLAIN),
        ({"messages": json.dumps([USER, ASSISTANT])}, "messages", PLAIN),
        ({"messages": [USER, ASSISTANT], "id": 1, "text": "x"}, "messages", PLAIN),
        ({"dialogue": [USER, {"role": "Model", "content": "a"}]}, "messages", PLAIN),
        (
            {"messages": [{"role": "developer", "content": "s"}, USER, ASSISTANT]},
            "messages",
            Conversation((SYSTEM, USER, ASSISTANT)),
        ),
        (
            {"system": "s", "messages": [USER, ASSISTANT], "tools": json.dumps([{"name": "f"}])},
            "messages",
            Conversation((SYSTEM, USER, ASSISTANT), ({"name": "f"},)),
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, ASSISTANT]},
            "messages",
            PLAIN,
        ),
        (
            {"messages": [
                USER,
                {"role": "assistant", "content": None,
                 "tool_calls": [{"function": {"name": "f", "arguments": '{"x": 1}'}}]},
                {"role": "tool", "tool_call_id": "1", "content": "42"},
                ASSISTANT,
            ]},
            "messages",
            Conversation((
                USER,
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "content": "42", "tool_call_id": "1"},
                ASSISTANT,
            )),
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            "sharegpt",
            PLAIN,
        ),
        (
            {"conversations": [{"from": "prompter", "value": "q"}, {"from": "bot", "value": "a"}],
             "system": "s"},
            "sharegpt",
            Conversation((SYSTEM, USER, ASSISTANT)),
        ),
        ({"conversations": [USER, ASSISTANT]}, "messages", PLAIN),
        ({"instruction": "q", "input": "", "output": "a"}, "alpaca", PLAIN),
        (
            {"instruction": "q", "input": "i", "output": "a", "system": "s",
             "history": [["x", "y"]]},
            "alpaca",
            Conversation((
                SYSTEM, {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"},
                {"role": "user", "content": "q\n\ni"}, ASSISTANT,
            )),
        ),
        ({"prompt": "q", "completion": "a"}, "prompt-completion", PLAIN),
        ({"Question": "q", "ANSWER": "a", "id": 7}, "prompt-completion", PLAIN),
        ({"query": "q", "response": "a"}, "prompt-completion", PLAIN),
        ({"input": "q", "output": "a"}, "prompt-completion", PLAIN),
        ({"User Message": "q", "Assistant-Message": "a"}, "prompt-completion", PLAIN),
        ({"userMessage": "q", "assistantReply": "a"}, "prompt-completion", PLAIN),
        ({"inputText": "q", "outputText": "a"}, "prompt-completion", PLAIN),
        ({"Q": "q", "A": "a"}, "prompt-completion", PLAIN),
        ({"questions": "q", "Correct Answer": "a"}, "prompt-completion", PLAIN),
        ({"user_prompt": "q", "model-response": "a"}, "prompt-completion", PLAIN),
        ({"human": "q", "ai": "a"}, "prompt-completion", PLAIN),
        ({"Context": "q", "Response": "a"}, "prompt-completion", PLAIN),
        ({"document": "q", "summary": "a"}, "prompt-completion", PLAIN),
        ({"article": "q", "highlights": "a", "id": 1}, "prompt-completion", PLAIN),
        ({"dialogue": "q", "summary": "a", "topic": "x"}, "prompt-completion", PLAIN),
        ({"items": [USER, ASSISTANT], "id": 3}, "messages", PLAIN),
        ({"talk": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
          "system": "s"}, "sharegpt", Conversation((SYSTEM, USER, ASSISTANT))),
        ({"conversation": [{"human": "q", "assistant": "a"}]}, "messages", PLAIN),
        (
            {"context": "c", "question": "q", "answer": 42},
            "prompt-completion",
            Conversation((
                {"role": "user", "content": "q\n\nc"}, {"role": "assistant", "content": "42"},
            )),
        ),
        ({"prompt": [SYSTEM, USER], "completion": [ASSISTANT]}, "prompt-completion",
         Conversation((SYSTEM, USER, ASSISTANT))),
        ({"text": "t", "label": 3}, "text", Text("t")),
        ({"content": "t"}, "text", Text("t")),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            "preference",
            Preference((USER,), (ASSISTANT,), ({"role": "assistant", "content": "b"},)),
        ),
        (
            {"chosen": [USER, ASSISTANT], "rejected": [USER, {**ASSISTANT, "content": "b"}]},
            "preference",
            Preference((USER,), (ASSISTANT,), ({"role": "assistant", "content": "b"},)),
        ),
        (
            {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
            "preference",
            Preference((USER,), (ASSISTANT,), ({"role": "assistant", "content": "b"},)),
        ),
        (
            {"prompt": [USER], "chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]},
            "preference",
            Preference((USER,), (ASSISTANT,), (ASSISTANT,)),
        ),
        ({"prompt": "q", "completion": "a", "label": "True"}, "kto",
         Judged((USER,), (ASSISTANT,), True)),
        ({"prompt": [USER], "completion": [ASSISTANT], "label": False}, "kto",
         Judged((USER,), (ASSISTANT,), False)),
    ],
)  # fmt: skip
def test_formats(value: dict[str, Any], format: str, expected: Any) -> None:
    assert read(value) == (format, expected)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"messages": None}, "missing-field"),
        ({"messages": "hello"}, "missing-field"),
        ({"messages": [USER, 3]}, "missing-field"),
        ({"messages": [USER, {"role": "assistant"}]}, "missing-field"),
        ({"messages": [{"content": "x"}]}, "missing-field"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "unknown-role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "unknown-role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "missing-field"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "missing-field"),
        ({"prompt": "q", "completion": None}, "missing-field"),
        ({"prompt": " ", "completion": "a"}, "missing-field"),
        ({"prompt": "q", "completion": {"a": 1}}, "missing-field"),
        ({"prompt": "q", "completion": "a", "label": "maybe"}, "missing-field"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, "missing-field"),
        ({"chosen": "a", "rejected": "b"}, "missing-field"),
        ({"text": ""}, "empty-response"),
        ({"one": 1, "two": 2}, "missing-field"),
        ({}, "missing-field"),
    ],
)
def test_rows_that_lack_something(value: dict[str, Any], code: str) -> None:
    with pytest.raises(Unusable) as caught:
        read(value)
    assert caught.value.code == code
    assert caught.value.detail


def test_a_mapping_says_what_columns_are() -> None:
    value = {"frage": "q", "antwort": "a", "extra": 1}
    assert read(value, {"user": "frage", "assistant": "antwort"}) == ("prompt-completion", PLAIN)
    assert read(value, {"text": "frage"}) == ("text", Text("q"))
    for wrong in ({"nonsense": "frage"}, {"system": "frage"}):
        with pytest.raises(UserError):
            Recogniser(wrong)


def test_the_format_of_a_source_is_that_of_most_rows() -> None:
    values = [{"text": "x"}, {"prompt": "q", "completion": "a"}, {"prompt": "q", "response": "a"}]
    found = recognise(Record(n, value) for n, value in enumerate(values, 1))
    assert found.format == "prompt-completion"
    assert found.columns == ("text", "prompt", "completion", "response")


def test_strange_columns_get_a_suggestion() -> None:
    value = {"id": "7", "my_question_de": "was?", "the_answer_de": "so"}
    assert recognise([Record(1, value)]).suggestion == {
        "prompt": "my_question_de", "completion": "the_answer_de"
    }  # fmt: skip
    assert suggest({"a": "x" * 20, "n": 3}) == {"text": "a"}
    assert suggest({"frage": "x" * 20, "id": "1", "antwort": "y" * 30}) == {
        "prompt": "frage", "completion": "antwort"
    }  # fmt: skip
    assert suggest({}) == {}


@pytest.mark.parametrize(
    ("asks", "answers"),
    [
        ("human", "gpt"), ("Human", "GPT"), ("USER", "ASSISTANT"), ("prompter", "assistant"),
        ("user", "chatgpt"), ("user", "bing"), ("user", "bard"), ("human", "gpt-4"),
        ("human", "gpt4"), ("human", "GPT-3.5 Turbo"), ("user", "ai"), ("user", "chat-bot"),
        ("input", "output"), ("user", "model"), ("question", "answer"), ("human", "claude"),
        ("User ", "AI Assistant"),
    ],
)  # fmt: skip
def test_sharegpt_roles_in_every_spelling(asks: str, answers: str) -> None:
    turns = [{"from": asks, "value": "q"}, {"from": answers, "value": "a"}]
    assert read({"conversations": turns}) == ("sharegpt", PLAIN)


@pytest.mark.parametrize(
    "columns",
    [
        ("model_input", "label"), ("user_response", "score"), ("prompt_id", "answer_start"),
        ("a", "b"), ("response_time", "query"),
    ],
)  # fmt: skip
def test_names_that_only_sound_like_a_role_have_none(columns: tuple[str, str]) -> None:
    assert Recogniser().layout(dict.fromkeys(columns, "x")).format == "unknown"


def test_what_a_column_holds_does_not_depend_on_the_rows_before_it() -> None:
    """Parts of a file are recognised apart from each other."""
    rows = [{"dialogue": "a talk", "summary": "s"}, {"dialogue": [USER, ASSISTANT], "summary": "s"}]
    for order in (rows, rows[::-1]):
        recogniser = Recogniser()
        found = {type(row["dialogue"]): recogniser.layout(row).format for row in order}
        assert found == {str: "prompt-completion", list: "messages"}
