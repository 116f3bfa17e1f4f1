"""Rendering and ids equal those of transformers; broken folders are one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.data.tokenizer import load_tokenizer
from core.errors import UserError
from tests.core.data.conftest import MakeFolder

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_EVERYTHING = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' ~ (tools | tojson(indent=2)) ~ '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(first=true) %}
{%- for message in messages %}
    {%- if message.role == 'tool' %}
        {%- continue %}
    {%- endif %}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{ bos_token }}{{ message.content | trim }}{{ message | tojson }}
        {%- endgeneration %}
    {%- else %}
    {{ dict(a=message.content, b=ns.first) }} {{ strftime_now("%Y") }}
    {%- endif %}
    {%- set ns.first = false %}
{%- endfor %}
"""
MESSAGES = [
    {"role": "system", "content": "Be <brief> & “kind”."},
    {"role": "user", "content": "Grüße, 你好 🧑‍🚀  two  spaces\n\n"},
    {"role": "assistant", "content": " Hello there! ", "refusal": None},
    {"role": "tool", "content": "42"},
    {"role": "user", "content": "naïve résumé?"},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "für <b>"}}]
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.mark.parametrize("template", [CHATML, WITH_EVERYTHING])
@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("tools", [(), TOOLS])
def test_renders_and_encodes_as_transformers_does(
    make_folder: MakeFolder, template: str, kind: str, prompt: bool, tools: list[dict]
) -> None:
    from transformers import AutoTokenizer

    folder = make_folder(
        template, SPECIALS, eos="<|im_end|>", bos="<|im_start|>", kind=kind,
        template_in_config=prompt,
    )  # fmt: skip
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    rendered = ours.render(MESSAGES, tools, prompt)
    assert rendered == theirs.apply_chat_template(
        MESSAGES, tools=tools or None, add_generation_prompt=prompt, tokenize=False
    )
    expected = theirs(rendered, add_special_tokens=False)["input_ids"]
    assert ours.encode_text(rendered) == expected
    assert ours.decode(expected) == theirs.decode(expected)


def test_reads_stop_tokens_and_named_tokens(make_folder: MakeFolder) -> None:
    folder = make_folder(
        CHATML, SPECIALS, eos="<|im_end|>", bos="<|endoftext|>", stops=["<|im_end|>", SPECIALS[0]]
    )
    tokenizer = load_tokenizer(folder)
    assert tokenizer.stop_ids == (2, 0)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 2, None)
    assert tokenizer.special_ids == {0, 1, 2}
    assert tokenizer.has_template
    (folder / "generation_config.json").unlink()
    assert load_tokenizer(folder).stop_ids == (2,)
    (folder / "config.json").write_text('{"eos_token_id": 1}')
    assert load_tokenizer(folder).stop_ids == (1,)


def test_a_token_stream_keeps_characters_whole(make_folder: MakeFolder) -> None:
    tokenizer = load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|im_end|>"))
    text = "a 🦖 b<|im_end|>"
    pieces = tokenizer.pieces(tokenizer.encode_text(text))
    assert "".join(pieces) == text
    assert "" in pieces
    assert "\ufffd" not in "".join(pieces)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", None),
        ("tokenizer.json", b"{"),
        ("tokenizer.json", b"\x00\xff"),
        ("tokenizer_config.json", b"{"),
        ("tokenizer_config.json", b"[]"),
        ("generation_config.json", b"nope"),
        ("chat_template.jinja", b"{% for %}"),
        ("chat_template.jinja", b"\xff\xfe\x00"),
    ],
)
def test_broken_files_are_one_sentence(
    make_folder: MakeFolder, file: str, content: bytes | None
) -> None:
    folder = make_folder(CHATML, SPECIALS, eos="<|im_end|>")
    path = folder / file
    path.unlink(missing_ok=True) if content is None else path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_tokenizer(folder)
    assert str(folder) in caught.value.message
    assert caught.value.remedy


def test_a_model_without_a_template_gets_the_plain_one(make_folder: MakeFolder) -> None:
    folder = make_folder(None, SPECIALS, eos="<|endoftext|>")
    tokenizer = load_tokenizer(folder)
    assert not tokenizer.has_template
    assert tokenizer.render(MESSAGES[1:3], (), True) == (
        "### User:\nGrüße, 你好 🧑‍🚀  two  spaces\n\n\n\n"
        "### Assistant:\n Hello there! <|endoftext|>\n\n### Assistant:\n"
    )


def test_templates_run_in_a_sandbox(make_folder: MakeFolder) -> None:
    from core.data.chat_template import TemplateRefusal

    for number, attack in enumerate(
        ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}", "{{ range(10**9) | list }}"]
    ):
        folder = make_folder(attack, SPECIALS, eos="<|im_end|>", name=str(number))
        with pytest.raises(TemplateRefusal):
            load_tokenizer(folder).render(MESSAGES)


def test_named_templates_use_the_default(make_folder: MakeFolder) -> None:
    folder = make_folder(None, SPECIALS, eos="<|im_end|>")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "usual"},
    ]
    Path(folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert load_tokenizer(folder).render(MESSAGES) == "usual"
