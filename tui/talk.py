"""Chat without the app: prompts in, answers streamed to stdout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import click

from core.chat.client import ChatClient, chat_with_run
from core.chat.events import Notice, Piece
from core.data.examples import Message
from core.models.locate import locate
from core.runs.directory import RunDirectory
from core.text import printable


def talk(
    subject: RunDirectory | str,
    prompts: Iterable[str],
    *,
    compare: bool,
    system: str | None,
    temperature: float,
    max_new_tokens: int,
    seed: int,
) -> None:
    """Answer each prompt as a turn of one conversation, with a run's model or one by name."""
    with contextlib.closing(_client(subject, compare)) as client:
        for loading in client.load():
            click.echo(loading.stage, err=True)
        tuned: list[Message] = []
        base: list[Message] = []
        for prompt in prompts:
            turn: Message = {"role": "user", "content": prompt}
            tuned.append(turn)
            base.append(turn)
            answers = _answer(
                client.generate(
                    tuned,
                    base_messages=base if compare else None,
                    system=system,
                    temperature=temperature,
                    max_new_tokens=max_new_tokens,
                    seed=seed,
                ),
                stream=not compare,
            )
            tuned.append({"role": "assistant", "content": answers.get("tuned", "")})
            base.append({"role": "assistant", "content": answers.get("base", "")})


def _client(subject: RunDirectory | str, compare: bool) -> ChatClient:
    if isinstance(subject, RunDirectory):
        return chat_with_run(subject, compare=compare)
    return ChatClient(locate(subject))


def _answer(events: Iterable[object], *, stream: bool) -> dict[str, str]:
    """Print what comes; two models are printed one after the other when both have ended."""
    answers: dict[str, str] = {}
    for event in events:
        if isinstance(event, Piece):
            answers[event.who] = answers.get(event.who, "") + event.text
            if stream:
                click.echo(printable(event.text), nl=False)
        elif isinstance(event, Notice):
            click.echo(printable(event.message), err=True)
    if stream:
        click.echo()
    for who, text in () if stream else sorted(answers.items()):
        click.echo(f"[{who}] {printable(text)}")
    return answers
