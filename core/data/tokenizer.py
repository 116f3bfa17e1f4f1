"""A model's tokenizer and chat template, read from its folder without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.data.chat_template import PLAIN_TEMPLATE, ChatTemplate
from core.data.examples import Message
from core.errors import UserError, describe_os_error

if TYPE_CHECKING:
    import tokenizers

Offset = tuple[int, int]
_NAMED = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"
)  # fmt: skip
_REMEDY = "Take the model's files anew, or another model."


class Tokenizer:
    """Text to ids and back, and conversations to text, as the model's authors defined them.

    `has_template` is False for a base model; `template` is then `PLAIN_TEMPLATE`, which has to be
    saved with what is trained. `stop_ids` are the tokens that end generation: those of
    generation_config.json, else of config.json, else the tokenizer's end-of-text token.
    `splits_freely` is False where text at a beginning gets a space in front (SentencePiece).
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        named: Mapping[str, str],
        template: str | None,
        stop_ids: Sequence[int],
        adds_bos: bool | None,
        where: str,
    ) -> None:
        self._backend = backend
        self.named = dict(named)
        self.where = where
        self.has_template = template is not None
        self.bos = named.get("bos_token")
        self.eos = named.get("eos_token")
        self.bos_id = self.id_of(self.bos)
        self.eos_id = self.id_of(self.eos)
        self.pad_id = self.id_of(named.get("pad_token"))
        own = [self.eos_id] if self.eos_id is not None else []
        self.stop_ids = tuple(dict.fromkeys(stop_ids or own))
        self.adds_bos = self._adds_bos() if adds_bos is None else adds_bos
        added = backend.get_added_tokens_decoder()
        self.added = {number: token.content for number, token in added.items()}
        self.special_ids = frozenset(n for n, token in added.items() if token.special)
        self.stop_texts = tuple(filter(None, (backend.id_to_token(i) for i in self.stop_ids)))
        self.splits_freely = backend.encode("a", add_special_tokens=False).tokens[0][:1] not in "▁Ġ"
        self._chat = self._compile(template)

    def _adds_bos(self) -> bool:
        ids = self._backend.encode("a", add_special_tokens=True).ids
        return self.bos_id is not None and ids[:1] == [self.bos_id]

    def _compile(self, template: str | None) -> ChatTemplate:
        named = self.named
        if template is None:
            bos = named.get("bos_token", "") if self.adds_bos else ""
            named = {"eos_token": "", **named, "bos_token": bos}
        return ChatTemplate(template or PLAIN_TEMPLATE, named, self.where)

    @property
    def template(self) -> str:
        """The source of the template in use."""
        return self._chat.source

    @property
    def vocabulary(self) -> int:
        return int(self._backend.get_vocab_size())

    def id_of(self, token: str | None) -> int | None:
        found: int | None = self._backend.token_to_id(token) if token is not None else None
        return found

    def encode_text(self, text: str) -> list[int]:
        """The ids of `text` alone: special tokens written in it count, none are added."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[Offset]]:
        """Like `encode_text`, with the characters (start, end) that each token stands for."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        text: str = self._backend.decode(list(ids), skip_special_tokens=skip_special)
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text that each token adds. A character of several tokens comes with its last."""
        from tokenizers.decoders import DecodeStream

        stream = DecodeStream(skip_special_tokens=False)
        return [stream.step(self._backend, number) or "" for number in ids]

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool = False,
    ) -> str:
        """The conversation as the template writes it. May raise `TemplateRefusal`."""
        return self._chat.render(messages, tools, add_generation_prompt=add_generation_prompt)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read tokenizer.json and what lies beside it. UserError for missing or broken files."""
    backend = _backend(folder / "tokenizer.json")
    config = _read_json(folder / "tokenizer_config.json")
    named = _named_tokens(_read_json(folder / "special_tokens_map.json")) | _named_tokens(config)
    adds_bos = config.get("add_bos_token")
    return Tokenizer(
        backend,
        named=named,
        template=_template(folder, config),
        stop_ids=_stop_ids(folder),
        adds_bos=adds_bos if isinstance(adds_bos, bool) else None,
        where=str(folder),
    )


def _backend(path: Path) -> tokenizers.Tokenizer:
    import tokenizers

    if not path.is_file():
        raise UserError(
            f"{path.parent} holds no tokenizer.json.",
            "Only models with a fast tokenizer can be used; take another model.",
        )
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust library raises nothing narrower
        raise UserError(f"{path} is broken: {error}.", _REMEDY) from error
    backend.no_truncation()
    backend.no_padding()
    _keep_whitespace_in_offsets(backend.post_processor)
    return backend


def _keep_whitespace_in_offsets(processor: Any) -> None:
    """Make every token's offsets cover the white space in it: the mask is cut by them."""
    from tokenizers.processors import Sequence as Several

    if isinstance(processor, Several):
        position = 0
        while True:
            try:
                part = processor[position]
            except IndexError:
                return
            _keep_whitespace_in_offsets(part)
            position += 1
    elif hasattr(processor, "trim_offsets"):
        processor.trim_offsets = False


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, empty when there is no such file."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise describe_os_error(error, "read") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}.", _REMEDY) from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no JSON object.", _REMEDY)
    return tree


def _named_tokens(tree: dict[str, Any]) -> dict[str, str]:
    """`bos_token` and the like, which are written as a string or as an object."""
    found = {}
    for name in _NAMED:
        value = tree.get(name)
        if isinstance(value, dict):
            value = value.get("content")
        if isinstance(value, str):
            found[name] = value
    return found


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """The default template: chat_template.jinja first, as transformers does."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise describe_os_error(error, "read") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{error} in {folder / 'chat_template.jinja'}.", _REMEDY) from error
    value = config.get("chat_template") or _read_json(folder / "chat_template.json").get(
        "chat_template"
    )
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _stop_ids(folder: Path) -> list[int]:
    config = _read_json(folder / "config.json")
    text_config = config.get("text_config")
    places = (
        _read_json(folder / "generation_config.json"),
        config,
        text_config if isinstance(text_config, dict) else {},
    )
    for place in places:
        value = place.get("eos_token_id")
        ids = value if isinstance(value, list) else [value]
        if kept := [number for number in ids if isinstance(number, int)]:
            return kept
    return []
