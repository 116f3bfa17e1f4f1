"""The app's side of a chat: starts the worker, streams its answers, stops it.

All calls block and belong in one thread, but for `stop` and `close`, which any thread may call:

    client = chat_with_run(run, compare=True)
    for loading in client.load(): ...        # Loading events; the last has stage "ready"
    for event in client.generate(messages):  # Piece, Notice and one Turn for each model
        ...
    client.stop()                            # ends the present answers; the model stays loaded
    client.close()

What goes wrong is raised as UserError by the call that waits for it. After an error in
`generate` the client can go on unless `alive` is false.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core.chat.events import ChatEvent, Loading, Notice, Piece, Turn
from core.children import Child
from core.data.examples import Message
from core.errors import UserError
from core.methods import Bits
from core.recipe import load_recipe
from core.runs.directory import RunDirectory


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model comes from: a folder or a hub id, with an adapter on top or without.

    `bits`: of the weights that the adapter was trained on.
    """

    id: str
    revision: str | None = None
    adapter: str | None = None
    bits: Bits = 16


class ChatClient:
    """A chat with one model, or with a tuned one and its base side by side."""

    def __init__(
        self,
        model: ModelSource | str | Path,
        *,
        compare_with: ModelSource | str | Path | None = None,
        device: str = "auto",
    ) -> None:
        spec = {"tuned": asdict(_source(model)), "base": None, "device": device}
        if compare_with is not None:
            spec["base"] = asdict(_source(compare_with))
        self._child = Child("core.chat.worker", json.dumps(spec))
        self._messages = iter(self._child)
        self._numbers = itertools.count(1)
        self._current = 0
        self._closed = False
        self.alive = True
        self.ready: Loading | None = None

    def load(self) -> Iterator[Loading]:
        """Progress until the model is ready; then it has answered its last and returns."""
        while self.ready is None:
            message = self._next()
            if message["event"] == "loading":
                loading = Loading(**_fields(message, Loading))
                if loading.stage == "ready":
                    self.ready = loading
                yield loading

    def generate(
        self,
        messages: Sequence[Message],
        *,
        temperature: float = 0.7,
        top_p: float = 0.95,
        max_new_tokens: int = 512,
        seed: int = 0,
        system: str | None = None,
        base_messages: Sequence[Message] | None = None,
    ) -> Iterator[ChatEvent]:
        """Stream the answers to `messages`, whose last turn is the user's.

        `system` stands before them (None: as the template has it). `base_messages` give the
        base its own history in a comparison; without them both see the same.
        """
        if self.ready is None:
            for _ in self.load():
                pass
        self._current = number = next(self._numbers)
        request = {
            "do": "generate",
            "number": number,
            "tuned": _with_system(messages, system),
            "base": _with_system(messages if base_messages is None else base_messages, system),
            "sampling": {
                "temperature": temperature,
                "top_p": top_p,
                "max_new_tokens": max_new_tokens,
                "seed": seed,
            },
        }
        self._send(request)
        try:
            yield from self._answers(number)
        except GeneratorExit:
            self.stop()  # nobody waits for the rest
            raise

    def stop(self) -> None:
        """End the answers that are being written. Harmless when there are none."""
        if self.alive and not self._closed:
            self._send({"do": "stop", "number": self._current})

    def close(self) -> None:
        """End the worker. Whoever waits for it gets the end of the iteration."""
        self._closed = True
        self._child.close()

    def _answers(self, number: int) -> Iterator[ChatEvent]:
        while True:
            message = self._next()
            if message.get("number") != number:
                continue  # what is left of an answer that nobody waited for
            if message["event"] == "end":
                return
            if message["event"] == "pieces":
                for who, text in message["texts"].items():
                    yield Piece(who, text)
            elif message["event"] == "turn":
                yield Turn(**_fields(message, Turn))
            elif message["event"] == "notice":
                yield Notice(message["code"], message["message"])

    def _send(self, request: dict[str, Any]) -> None:
        try:
            self._child.send(request)
        except UserError:
            self.alive = False
            raise

    def _next(self) -> dict[str, Any]:
        message = next(self._messages, None)
        if message is None:
            self.alive = False
            raise self._death()
        if message["event"] == "error":
            self.alive = not message["fatal"]
            raise UserError(message["message"], message["remedy"])
        return message

    def _death(self) -> UserError:
        if self._closed:
            return UserError("The chat was closed.")
        code = self._child.wait()
        if code == -9:
            return UserError(
                "The chat was killed (signal 9), most likely for want of memory.",
                "Close other programs or choose a smaller model.",
            )
        lines = self._child.last_errors.strip().splitlines()
        reason = f": {lines[-1]}" if lines else ""
        return UserError(f"The chat process ended with exit code {code}{reason}.")


def chat_with_run(run: RunDirectory, *, compare: bool = False) -> ChatClient:
    """A chat with what a run made: merged/, else its adapter on the base. UserError: neither."""
    recipe = load_recipe(run.recipe)
    base = ModelSource(recipe.model.id, recipe.model.revision)
    if (run.merged / "config.json").is_file():
        tuned = ModelSource(str(run.merged))
    elif (run.adapter / "adapter_config.json").is_file():
        bits = recipe.method.base_bits
        tuned = ModelSource(base.id, base.revision, str(run.adapter), bits)
    else:
        raise UserError(
            f"{run.id} has no trained model yet.", "Let it train to the end, or resume it."
        )
    device = "cpu" if recipe.hardware.gpu == "cpu" else "auto"
    return ChatClient(tuned, compare_with=base if compare else None, device=device)


def _source(model: ModelSource | str | Path) -> ModelSource:
    return model if isinstance(model, ModelSource) else ModelSource(str(model))


def _with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    if system is None:
        return list(messages)
    rest = [message for message in messages if message.get("role") != "system"]
    return [{"role": "system", "content": system}, *rest]


def _fields(message: dict[str, Any], kind: type) -> dict[str, Any]:
    return {key: message[key] for key in kind.__dataclass_fields__ if key in message}  # type: ignore[attr-defined]
