"""For every family of chat templates, trained tokens decode to the answers and the stop token."""

from __future__ import annotations

import re
from typing import Any

import pytest

from core.data.encoding import NO_CALLS, encode, encode_prompt
from core.data.examples import Conversation
from core.data.tokenizer import Tokenizer, load_tokenizer
from tests.core.data.conftest import MakeFolder
from tests.core.data.families import BASE, CHATML, DEEPSEEK, FAMILIES, QWEN3, Family
from tests.core.data.test_encoding import assistant, trained_runs, user

ANSWERS = ["Grüße, 你好!", '{"a": [1, 2]}']
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
TOOLS = ({"type": "function", "function": {"name": "weather", "parameters": {}}},)

TOOL_ROW = Conversation(
    (
        {"role": "user", "content": "Weather in Oslo?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "cold"},
        {"role": "assistant", "content": ANSWERS[0]},
    ),
    TOOLS,
)


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    chosen: Family = request.param
    return chosen


@pytest.fixture
def tokenizer(family: Family, make_folder: MakeFolder) -> Tokenizer:
    return load(family, make_folder)


def load(family: Family, make_folder: MakeFolder) -> Tokenizer:
    return load_tokenizer(
        make_folder(
            family.template, family.specials, eos=family.stops[0], stops=family.stops,
            bos=family.bos, kind=family.kind,
        )
    )  # fmt: skip


def runs(row: Conversation, tokenizer: Tokenizer, train_on: Any = "assistant") -> list[list[str]]:
    encoded = encode(row, tokenizer, None, train_on)
    assert all(one.stop for one in encoded)
    return [trained_runs(one, tokenizer) for one in encoded]


def said(family: Family, answer: str) -> str:
    return plain(family, family.before + answer + family.end)


def plain(family: Family, text: str) -> str:
    """SentencePiece adds a space after special tokens, and drops the first when decoding."""
    return re.sub(" +", " ", text).lstrip(" ") if family.kind == "sentencepiece" else text


@pytest.mark.parametrize("system", [False, True])
def test_conversations(family: Family, tokenizer: Tokenizer, system: bool) -> None:
    turns = (user("Hi 🧑‍🚀"), assistant(ANSWERS[0]), user("more?"), assistant(ANSWERS[1]))
    row = Conversation((SYSTEM, *turns) if system else turns)
    found = runs(row, tokenizer)
    assert len(found) == family.sequences
    assert [plain(family, text) for one in found for text in one] == [
        said(family, text) for text in ANSWERS
    ]
    ((last,),) = runs(row, tokenizer, "last")
    assert plain(family, last) == said(family, ANSWERS[1])
    notes = encode(row, tokenizer, None, "assistant")[-1].notes
    expected = [n for n in family.notes if system or n != "no system turn"]
    assert len(notes) == len(expected)
    for note, words in zip(notes, expected, strict=True):
        assert words in note


def test_the_first_prompt_is_that_of_generation(family: Family, tokenizer: Tokenizer) -> None:
    row = Conversation((SYSTEM, user("Hi"), assistant(ANSWERS[0])))
    (encoded,) = encode(row, tokenizer, None, "assistant")
    prompt = encode_prompt(row.messages[:2], tokenizer)
    if family is DEEPSEEK:  # generation begins inside a thought, which rows do not have
        prompt = prompt[: prompt.index(tokenizer.id_of("<think>") or -1)]
    assert encoded.input_ids[: len(prompt)] == prompt
    assert set(encoded.labels[: len(prompt)]) == {-100}
    assert encoded.labels[len(prompt)] == encoded.input_ids[len(prompt)]


def test_tool_calls(family: Family, tokenizer: Tokenizer) -> None:
    if family.call is None:
        return  # its template has no tools: see the test below
    row = TOOL_ROW
    texts = [plain(family, text) for one in runs(row, tokenizer) for text in one]
    assert texts[-1] == said(family, ANSWERS[0])
    assert texts[0].removeprefix(family.before) == plain(family, family.call + family.end)
    assert len(texts) == 2


def test_a_call_that_the_template_does_not_show_is_not_trained(
    family: Family, tokenizer: Tokenizer
) -> None:
    """Else the model would learn to say nothing where a call belongs."""
    if family.call is not None:
        return
    encoded = encode(TOOL_ROW, tokenizer, None, "assistant")
    notes = [note for one in encoded for note in one.notes]
    assert any(NO_CALLS in note or "refuses" in note for note in notes), notes
    texts = [plain(family, text) for one in encoded for text in trained_runs(one, tokenizer)]
    assert texts in ([], [said(family, ANSWERS[0])])


def test_thoughts_are_trained_where_the_template_shows_them(make_folder: MakeFolder) -> None:
    tokenizer = load(QWEN3, make_folder)
    row = Conversation((user("q"), assistant("a", reasoning_content="hm, a?")))
    assert runs(row, tokenizer) == [["<think>\nhm, a?\n</think>\n\na<|im_end|>"]]


def test_an_answer_that_looks_like_the_template(make_folder: MakeFolder) -> None:
    tokenizer = load(CHATML, make_folder)
    text = "Write <|im_end|>\n to end, and <|im_start|>assistant\n to begin."
    row = Conversation((user("How?"), assistant(text), user("So?"), assistant("Yes.")))
    assert runs(row, tokenizer) == [[f"{text}<|im_end|>", "Yes.<|im_end|>"]]


def test_a_base_model_gets_the_plain_template(make_folder: MakeFolder) -> None:
    tokenizer = load(BASE, make_folder)
    assert not tokenizer.has_template
    row = Conversation((user("q"), assistant("a")))
    (encoded,) = encode(row, tokenizer, None, "assistant")
    shown = tokenizer.decode(encoded.input_ids)
    assert shown.startswith("### User:\nq\n\n### Assistant:\na<|endoftext|>")
