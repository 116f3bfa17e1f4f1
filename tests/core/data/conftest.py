"""Small real tokenizers made on the spot: byte-level BPE and a SentencePiece-like one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = [
    "You are a helpful assistant. What is the weather in Oslo today?",
    '{"name": "weather", "arguments": {"city": "Oslo"}} It is cold, and it rains.\n\n',
    "user assistant system tool <think> </think> Hello there! Grüße, 你好, 🧑‍🚀 résumé naïve",
] * 3
MakeFolder = Callable[..., Path]


def byte_level(specials: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def sentencepiece_like(specials: list[str]) -> Tokenizer:
    """As Llama 2 and Mistral have it: `▁` for spaces, one put in front, bytes as a fallback."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=[
            "<unk>", *(AddedToken(t, special=True, normalized=False) for t in specials), *bytes_
        ],
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    tree = json.loads(tokenizer.to_str())
    tree["added_tokens"] = [t for t in tree["added_tokens"] if t["content"] not in bytes_]
    return Tokenizer.from_str(json.dumps(tree))


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write a model folder's tokenizer files."""

    def make(
        template: str | None,
        specials: list[str],
        *,
        eos: str,
        stops: list[str] | None = None,
        bos: str | None = None,
        kind: str = "byte-level",
        name: str = "model",
        template_in_config: bool = False,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        tokenizer = (byte_level if kind == "byte-level" else sentencepiece_like)(specials)
        tokenizer.save(str(folder / "tokenizer.json"))
        config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos}
        if bos is not None:
            config["bos_token"] = bos
        if template is not None and template_in_config:
            config["chat_template"] = template
        elif template is not None:
            (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
        ids = [tokenizer.token_to_id(token) for token in stops or [eos]]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
        return folder

    return make
