"""The chat worker: holds the model and answers requests, JSON lines in and out.

    python -P -m core.chat.worker '{"tuned": {"id": …}, "base": …, "device": "auto"}'

A thread reads the requests, so that a stop, or the end of stdin, is seen while an answer is
being written or a model loaded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

from core.chat.context import fit
from core.data.examples import Message
from core.errors import UserError
from core.inference.wire import Wire, requests
from core.paths import expanded

if TYPE_CHECKING:
    from core.data.tokenizer import Tokenizer

SECONDS_BETWEEN_PIECES = 0.125
STARTED = time.monotonic()
Request = dict[str, Any]


class ChatWire(Wire):
    """The messages of a chat (see `ChatClient`)."""

    def loading(self, stage: str, **fields: Any) -> None:
        self.send(event="loading", stage=stage, seconds=time.monotonic() - STARTED, **fields)

    def error(self, error: UserError, *, fatal: bool, number: int = 0) -> None:
        self.send(
            event="error", message=error.message, remedy=error.remedy, fatal=fatal, number=number
        )


class Inbox:
    """Requests, read by a thread of its own. `stopped` is the last answer to be broken off."""

    def __init__(self) -> None:
        self.stopped = 0
        self._requests: SimpleQueue[Request] = SimpleQueue()
        Thread(target=self._read, daemon=True).start()

    def __iter__(self) -> Iterator[Request]:
        while True:
            yield self._requests.get()

    def _read(self) -> None:
        for request in requests():
            if request["do"] == "stop":
                self.stopped = max(self.stopped, request["number"])
            else:
                self._requests.put(request)
        os._exit(0)  # the app has gone; nothing here needs cleaning up


@dataclass(frozen=True, slots=True)
class Speaker:
    """A loaded model that answers: the tuned one, or the base."""

    who: str
    model: Any
    tokenizer: Tokenizer
    context: int | None

    def encode(self, messages: Any) -> list[int]:
        from core.data.chat_template import TemplateRefusal
        from core.data.encoding import encode_prompt

        try:
            return encode_prompt(messages, self.tokenizer)
        except TemplateRefusal as refusal:
            raise UserError(f"The model's chat template refuses this chat: {refusal}") from refusal

    def decode(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special=True)


def main() -> int:
    """Load, then answer until stdin ends. Exit code 1 with an error message if loading fails."""
    spec = json.loads(sys.argv[1])
    wire, inbox = ChatWire(), Inbox()
    try:
        speakers = load(spec, wire)
    except UserError as error:
        wire.error(error, fatal=True)
        return 1
    wire.loading("ready", device=_device(speakers[0]), context=speakers[0].context)
    for request in inbox:
        try:
            answer(speakers, request, wire, inbox)
        except UserError as error:
            wire.error(error, fatal=False, number=request["number"])
        except RuntimeError as error:  # what torch raises, out of memory among it
            reason = str(error).splitlines()[0] if str(error) else "no reason given"
            wire.error(UserError(f"The model could not answer: {reason}"), fatal=False)
    return 0


def load(spec: dict[str, Any], wire: ChatWire) -> list[Speaker]:
    """The models of `spec`, each in bf16 on the device that has room for all of them."""
    folders = {who: _locate(spec[who], wire) for who in ("tuned", "base") if spec[who]}
    wire.loading("importing")
    from core.inference.loading import (
        check_model_folder,
        choose_device,
        quiet_transformers,
        weight_bytes,
    )

    quiet_transformers()
    for folder in folders.values():
        check_model_folder(folder)
    needed = sum(weight_bytes(folder, spec[who]["bits"]) for who, folder in folders.items())
    device = choose_device(needed, spec["device"])
    speakers = []
    for who, folder in folders.items():
        wire.loading("loading", text="the base" if who == "base" else folder.name)
        speakers.append(_speaker(who, folder, spec[who], device))
    return speakers


def _locate(source: dict[str, Any], wire: ChatWire) -> Path:
    """The folder of a model; downloads it where it is a hub id that is not here yet."""
    folder = expanded(source["id"])
    if folder.exists() or folder.is_absolute():
        return folder
    from core.models.locate import locate

    def progress(text: str, done: int, total: int | None) -> None:
        wire.loading("downloading", done=done, total=total, text=text)

    return locate(source["id"], source["revision"], progress)


def _speaker(who: str, folder: Path, source: dict[str, Any], device: str) -> Speaker:
    from core.data.tokenizer import load_tokenizer
    from core.inference.loading import load_model

    top = Path(source["adapter"]) if source["adapter"] is not None else None
    model = load_model(folder, device, top, source["bits"])
    # An adapter brings the tokenizer and template it was trained with, if they differ.
    own = top if top is not None and (top / "tokenizer.json").is_file() else folder
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None:
        context -= getattr(model, "virtual_tokens", 0)
    return Speaker(who, model, load_tokenizer(own), context)


def _device(speaker: Speaker) -> str:
    from core.inference.loading import device_name

    return device_name(str(speaker.model.device))


class Voice:
    """One answer in the making, with its clock."""

    def __init__(self, speaker: Speaker, messages: list[Message], sampling: Any) -> None:
        from core.inference.decoding import Answer, Detokeniser, Sampling

        fitted = fit(messages, speaker.encode, speaker.context, sampling["max_new_tokens"])
        self.who = speaker.who
        self.dropped = fitted.dropped
        self.prompt_tokens = len(fitted.prompt)
        settings = Sampling(**{**sampling, "max_new_tokens": fitted.max_new_tokens})
        self._answer = Answer(speaker.model, fitted.prompt, settings, speaker.tokenizer.stop_ids)
        self._text = Detokeniser(speaker.decode)
        self._started = time.monotonic()
        self._first: float | None = None
        self.text = ""
        self.unsent = ""

    @property
    def ended(self) -> str | None:
        return self._answer.ended

    def step(self) -> None:
        token = self._answer.step()
        if token is not None:
            if self._first is None:
                self._first = time.monotonic()
            self._take(self._text.add(token))
        if self.ended:
            self._take(self._text.finish())

    def _take(self, text: str) -> None:
        self.text += text
        self.unsent += text

    def report(self) -> dict[str, Any]:
        now = time.monotonic()
        first = self._first or now
        count = len(self._answer.tokens)
        pace = (count - 1) / (now - first) if count > 1 and now > first else 0.0
        return {
            "who": self.who,
            "text": self.text,
            "ended": self.ended or "stopped",
            "tokens": count,
            "seconds": now - self._started,
            "tokens_per_s": pace,
            "first_token_seconds": first - self._started,
            "prompt_tokens": self.prompt_tokens,
        }


def answer(speakers: list[Speaker], request: Request, wire: ChatWire, inbox: Inbox) -> None:
    """Write the answers of all speakers side by side, a token of each in turn."""
    number = request["number"]
    voices = [Voice(each, request[each.who], request["sampling"]) for each in speakers]
    _tell_dropped(voices, number, wire)
    last = 0.0
    speaking = list(voices)
    while speaking and inbox.stopped < number:
        for voice in list(speaking):
            voice.step()
            if voice.ended:
                speaking.remove(voice)
                _send_pieces(voices, number, wire)
                wire.send(event="turn", number=number, **voice.report())
        if time.monotonic() - last >= SECONDS_BETWEEN_PIECES and _send_pieces(voices, number, wire):
            last = time.monotonic()
    _send_pieces(voices, number, wire)
    for voice in speaking:
        wire.send(event="turn", number=number, **voice.report())
    wire.send(event="end", number=number)


def _tell_dropped(voices: list[Voice], number: int, wire: ChatWire) -> None:
    dropped = max(voice.dropped for voice in voices)
    if dropped:
        text = f"The context is full: the oldest {dropped} messages were left out."
        wire.send(event="notice", number=number, code="context-full", message=text)


def _send_pieces(voices: list[Voice], number: int, wire: ChatWire) -> bool:
    texts = {voice.who: voice.unsent for voice in voices if voice.unsent}
    if texts:
        wire.send(event="pieces", number=number, texts=texts)
    for voice in voices:
        voice.unsent = ""
    return bool(texts)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
