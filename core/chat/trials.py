"""Held-out prompts to try a tuned model with: the run kept them, and the answers they deserve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from core.data.prepared import HELD_OUT
from core.runs.directory import RunDirectory

MOST = 50


@dataclass(frozen=True, slots=True)
class Trial:
    """A prompt of one turn that the training never saw, with the answer that its row has."""

    prompt: str
    reference: str
    system: str | None = None


def trials(run: RunDirectory, most: int = MOST) -> list[Trial]:
    """The first held-out prompts that can be typed: one turn, with a system message or without.

    Empty when the run has not got that far; a damaged line is left out.
    """
    try:
        with (run.data / HELD_OUT).open(encoding="utf-8", errors="replace") as file:
            return list(islice(_trials(file), most))
    except OSError:
        return []


def _trials(lines: Iterator[str]) -> Iterator[Trial]:
    for line in lines:
        try:
            row = json.loads(line)
            messages, reference = row["messages"], str(row["reference"])
            system = str(messages[0]["content"]) if messages[0]["role"] == "system" else None
            turns = messages[1:] if system is not None else messages
            if len(turns) == 1 and turns[0]["role"] == "user" and not row.get("tools"):
                yield Trial(str(turns[0]["content"]), reference, system)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            continue
