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
