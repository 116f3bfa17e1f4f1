"""Keys that the environment holds must not get into anything that is written."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import TextIO

HIDDEN = "•••"
SHORTEST = 8  # anything shorter would blot out ordinary words
_NAME = re.compile(r"(API_?KEY|ACCESS_KEY|TOKEN|SECRET|PASSWORD|PASSWD)(_|$)", re.IGNORECASE)


def secrets_in(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The values that look like keys by their names, the longest first."""
    found = {
        value
        for name, value in environment.items()
        if len(value) >= SHORTEST and _NAME.search(name) and not _is_setting(value)
    }
    return tuple(sorted(found, key=len, reverse=True))


def _is_setting(value: str) -> bool:
    """A path or a word of letters, as in `TOKENIZERS_PARALLELISM=false`, is no key."""
    return value.startswith(("/", "~", ".")) or value.isalpha()


@cache
def _ours() -> tuple[str, ...]:
    return secrets_in(os.environ)


def without_secrets(text: str) -> str:
    """The text with every key of this process's environment blotted out."""
    for secret in _ours():
        text = text.replace(secret, HIDDEN)
    return text


class _Guard:
    """A text stream that blots keys out of what libraries print."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(without_secrets(text))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def guard_output() -> None:
    """From now on nothing that this process prints holds a key."""
    if _ours():
        sys.stdout, sys.stderr = _Guard(sys.stdout), _Guard(sys.stderr)  # type: ignore[assignment]
