"""A chat in the background: the blocking client runs in a thread, the screen polls for news."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from core.chat.client import ChatClient
from core.chat.events import ChatEvent, Loading
from core.data.examples import Message
from core.errors import UserError


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How answers are generated. Temperature 0 is greedy; `system` None is the template's own."""

    temperature: float = 0.0
    max_new_tokens: int = 512
    seed: int = 0
    system: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What to answer. `base` is the base model's own history, in a comparison."""

    tuned: Sequence[Message]
    base: Sequence[Message] | None
    settings: ChatSettings


@dataclass(frozen=True, slots=True)
class Failed:
    """Something went wrong. After a fatal failure the session is over."""

    error: UserError
    fatal: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The answers to a question are complete, or have been stopped."""


News = Loading | ChatEvent | Failed | Answered


class ChatSession:
    """One child that chats. `ask` one question at a time; `news` is what has come since."""

    def __init__(self, open_client: Callable[[], ChatClient]) -> None:
        self._open = open_client
        self._client: ChatClient | None = None
        self._questions: SimpleQueue[Question | None] = SimpleQueue()
        self._news: SimpleQueue[News] = SimpleQueue()
        self._closed = False
        Thread(target=self._work, daemon=True).start()

    def ask(self, question: Question) -> None:
        """Have it answered as soon as the model is there."""
        self._questions.put(question)

    def news(self) -> list[News]:
        """What has happened since the last call, without waiting."""
        news: list[News] = []
        with suppress(Empty):
            while True:
                news.append(self._news.get_nowait())
        return news

    def stop(self) -> None:
        """End the present answer, or take back a question that waits for the model to load. The
        model stays loaded."""
        with suppress(Empty):
            waiting = self._questions.get_nowait()
            self._news.put(Answered())
            if waiting is None:  # the session is being closed
                self._questions.put(None)
            return
        if self._client is not None:
            with suppress(UserError):  # it has ended meanwhile, and the reader says why
                self._client.stop()

    def close(self) -> None:
        """End the child without waiting for it."""
        self._closed = True
        self._questions.put(None)
        if self._client is not None:
            Thread(target=self._client.close, daemon=True).start()

    def _work(self) -> None:
        try:
            self._client = client = self._open()
            if self._closed:
                client.close()
                return
            for loading in client.load():
                self._news.put(loading)
        except UserError as error:
            self._news.put(Failed(error, fatal=True))
            return
        while (question := self._questions.get()) is not None:
            if not self._answer(client, question):
                return

    def _answer(self, client: ChatClient, question: Question) -> bool:
        """Pass an answer on as it comes. False when the child is gone."""
        settings = question.settings
        try:
            for event in client.generate(
                question.tuned,
                temperature=settings.temperature,
                max_new_tokens=settings.max_new_tokens,
                seed=settings.seed,
                system=settings.system,
                base_messages=question.base,
            ):
                self._news.put(event)
        except UserError as error:
            self._news.put(Failed(error, fatal=not client.alive))
        self._news.put(Answered())
        return client.alive
