"""The mask: exactly the answers and the token they end with, whatever the template does."""

from __future__ import annotations

import pytest

from core.data.chat_template import TemplateRefusal
from core.data.encoding import IGNORED, Encoded, encode, encode_prompt, spans
from core.data.examples import Conversation, Preference, Text
from core.data.tokenizer import Tokenizer, load_tokenizer
from tests.core.data.conftest import MakeFolder
from tests.core.data.test_tokenizer import CHATML, SPECIALS

STRIPS_HISTORY = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and loop.last %}<think>{{ m.reasoning_content }}</think>"
    "{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + CHATML
)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: object) -> dict[str, object]:
    return {"role": "assistant", "content": text, **more}


TWO_TURNS = Conversation(
    (user("Hi 🧑‍🚀"), assistant("Grüße\n"), user("你好?"), assistant('  {"a": 1}')),
)


def trained_runs(encoded: Encoded, tokenizer: Tokenizer) -> list[str]:
    """The text of every unbroken run of trained tokens."""
    runs: list[list[int]] = []
    previous = IGNORED
    for token, label in zip(encoded.input_ids, encoded.labels, strict=True):
        if label != IGNORED:
            assert label == token
            if previous == IGNORED:
                runs.append([])
            runs[-1].append(label)
        previous = label
    return [tokenizer.decode(run) for run in runs]


@pytest.fixture
def chatml(make_folder: MakeFolder) -> Tokenizer:
    return load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|im_end|>"))


def test_trains_the_answers_and_their_stop_token(chatml: Tokenizer) -> None:
    (encoded,) = encode(TWO_TURNS, chatml, None, "assistant")
    assert trained_runs(encoded, chatml) == ["Grüße\n<|im_end|>", '  {"a": 1}<|im_end|>']
    assert encoded.input_ids == chatml.encode_text(chatml.render(TWO_TURNS.messages))
    assert encoded.stop
    assert encoded.cut == 0
    assert encoded.trained == sum(label != IGNORED for label in encoded.labels)


def test_can_train_the_last_answer_only_or_everything(chatml: Tokenizer) -> None:
    (last,) = encode(TWO_TURNS, chatml, None, "last")
    assert trained_runs(last, chatml) == ['  {"a": 1}<|im_end|>']
    (everything,) = encode(TWO_TURNS, chatml, None, "all")
    assert trained_runs(everything, chatml) == [chatml.render(TWO_TURNS.messages).rstrip()]
    assert everything.stop


def test_the_prompt_is_what_leads_to_the_answer(chatml: Tokenizer) -> None:
    (encoded,) = encode(Conversation(TWO_TURNS.messages[:2]), chatml, None, "assistant")
    prompt = encode_prompt(TWO_TURNS.messages[:1], chatml)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert encoded.labels[len(prompt)] != IGNORED
    assert set(encoded.labels[: len(prompt)]) == {IGNORED}


def test_an_answer_that_would_merge_with_the_prompt_is_tokenized_apart(chatml: Tokenizer) -> None:
    row = Conversation((user("q"), assistant("\n\nyes")))
    (encoded,) = encode(row, chatml, None, "assistant")
    prompt = encode_prompt(row.messages[:1], chatml)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert trained_runs(encoded, chatml) == ["\n\nyes<|im_end|>"]


def test_rewritten_history_makes_a_sequence_for_every_answer(make_folder: MakeFolder) -> None:
    tokenizer = load_tokenizer(make_folder(STRIPS_HISTORY, SPECIALS, eos="<|im_end|>"))
    row = Conversation(
        (
            user("a"),
            assistant("one", reasoning_content="hm"),
            user("b"),
            assistant("two", reasoning_content="ah"),
        )
    )
    encoded = encode(row, tokenizer, None, "assistant")
    assert [trained_runs(one, tokenizer) for one in encoded] == [
        ["<think>hm</think>one<|im_end|>"],
        ["<think>ah</think>two<|im_end|>"],
    ]
    assert "rewrites" in encoded[0].notes[-1]
    (last,) = encode(row, tokenizer, None, "last")
    assert trained_runs(last, tokenizer) == ["<think>ah</think>two<|im_end|>"]


def test_a_template_without_system_turn_gets_it_in_the_first_user_turn(
    make_folder: MakeFolder,
) -> None:
    tokenizer = load_tokenizer(make_folder(NO_SYSTEM, SPECIALS, eos="<|im_end|>"))
    system = {"role": "system", "content": "Be brief."}
    row = Conversation((system, user("q"), assistant("a"), user("r"), assistant("b")))
    (encoded,) = encode(row, tokenizer, None, "assistant")
    assert trained_runs(encoded, tokenizer) == ["a<|im_end|>", "b<|im_end|>"]
    assert "Be brief.\n\nq" in tokenizer.decode(encoded.input_ids)
    assert "system" in encoded.notes[0]
    prompt = encode_prompt(row.messages[:2], tokenizer)
    assert encoded.input_ids[: len(prompt)] == prompt


def test_says_when_generation_would_not_stop(make_folder: MakeFolder) -> None:
    folder = make_folder(CHATML, SPECIALS, eos="<|endoftext|>")
    tokenizer = load_tokenizer(folder)
    (encoded,) = encode(TWO_TURNS, tokenizer, None, "assistant")
    assert not encoded.stop
    assert trained_runs(encoded, tokenizer)[0] == "Grüße\n<|im_end|>"


def test_cuts_at_max_length_and_counts(chatml: Tokenizer) -> None:
    (whole,) = encode(TWO_TURNS, chatml, None, "assistant")
    (cut,) = encode(TWO_TURNS, chatml, len(whole.input_ids) - 8, "assistant")
    assert cut.cut == 8
    assert cut.input_ids == whole.input_ids[:-8]
    assert len(cut.labels) == len(cut.input_ids)
    assert not cut.stop
    (nothing,) = encode(TWO_TURNS, chatml, 4, "assistant")
    assert nothing.trained == 0


def test_text_is_trained_whole_and_ends(make_folder: MakeFolder) -> None:
    folder = make_folder(CHATML, SPECIALS, eos="<|endoftext|>", bos="<|im_start|>")
    tokenizer = load_tokenizer(folder)
    (encoded,) = encode(Text("Hello 你好"), tokenizer, None, "assistant")
    assert trained_runs(encoded, tokenizer) == ["Hello 你好<|endoftext|>"]
    assert encoded.stop
    tokenizer.adds_bos = True
    (encoded,) = encode(Text("Hello"), tokenizer, None, "assistant")
    assert encoded.input_ids[0] == tokenizer.bos_id
    assert encoded.labels[0] == IGNORED
    assert trained_runs(encoded, tokenizer) == ["Hello<|endoftext|>"]


def test_a_preference_is_a_pair(chatml: Tokenizer) -> None:
    row = Preference((user("q"),), (assistant("good"),), (assistant("bad"),))
    chosen, rejected = encode(row, chatml, None, "assistant")
    assert trained_runs(chosen, chatml) == ["good<|im_end|>"]
    assert trained_runs(rejected, chatml) == ["bad<|im_end|>"]


def test_says_why_turns_are_not_trained(chatml: Tokenizer) -> None:
    row = Conversation(
        (user("a"), assistant("no", weight=0), user("b"), assistant("yes"), user("c"))
    )
    (encoded,) = encode(row, chatml, None, "assistant")
    assert trained_runs(encoded, chatml) == ["yes<|im_end|>"]
    assert chatml.decode(encoded.input_ids).endswith("yes<|im_end|>\n")
    assert len(encoded.notes) == 2
    (empty,) = encode(Conversation((user("a"),)), chatml, None, "assistant")
    assert (empty.trained, empty.input_ids) == (0, [])
    assert "No assistant turn" in empty.notes[0]


def test_a_refused_row_is_empty_and_says_why(make_folder: MakeFolder) -> None:
    template = "{{ raise_exception('Roles must alternate') }}"
    tokenizer = load_tokenizer(make_folder(template, SPECIALS, eos="<|im_end|>"))
    (encoded,) = encode(TWO_TURNS, tokenizer, 100, "assistant")
    assert encoded.input_ids == []
    assert "Roles must alternate" in encoded.notes[0]
    with pytest.raises(TemplateRefusal):
        encode_prompt(TWO_TURNS.messages, tokenizer)


def test_spans_show_every_token(chatml: Tokenizer) -> None:
    (encoded,) = encode(TWO_TURNS, chatml, None, "assistant")
    shown = spans(encoded, chatml, len(encoded.input_ids) - 3)
    assert "".join(span.text for span in shown) == chatml.render(TWO_TURNS.messages)
    assert [span.kind for span in shown[-3:]] == ["truncated"] * 3
    assert shown[0].kind == "special"
    assert [span.token for span in shown] == encoded.input_ids
    trained = "".join(span.text for span in shown if span.kind == "trained")
    assert trained.startswith("Grüße\n<|im_end|>")
