"""Which models a person means by a few words: a part of the name, a size, a licence, a language."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from core.models.catalogue import ModelCard, load_catalogue

_SIZE = re.compile(r"(<=?|>=?)\s*(\d+(?:\.\d+)?)([bm])?")
_SPAN = re.compile(r"(\d+(?:\.\d+)?)([bm])?-(\d+(?:\.\d+)?)([bm])?")
_MANY_LANGUAGES = re.compile(r"\d+ languages")
_UNITS = {"b": 1e9, "m": 1e6}
WORDS: dict[str, Callable[[ModelCard], bool]] = {
    "here": lambda card: card.cached,
    "open": lambda card: not card.gated,
    "gated": lambda card: bool(card.gated),
    "instruct": lambda card: card.instruct,
    "base": lambda card: not card.instruct,
}
HELP = "part of a name, <8b, 1-4b, apache, german, here, open, instruct"
"""What one can type, for the line in which one types it."""


def matches(card: ModelCard, words: str) -> bool:
    """Whether every one of the words fits the model."""
    return all(_matches(card, word) for word in words.lower().split())


def _matches(card: ModelCard, word: str) -> bool:
    if (span := _sizes(word)) is not None:
        return span[0] <= card.shape.parameters <= span[1]
    if word in WORDS and WORDS[word](card):
        return True
    text = f"{card.id} {card.licence or ''} {card.languages} {card.template or ''}".lower()
    if word in text and word not in WORDS:
        return True
    return word in _languages() and _MANY_LANGUAGES.search(card.languages) is not None


def _sizes(word: str) -> tuple[float, float] | None:
    """The least and the most parameters that a word like `<8b` or `1-4b` means."""
    if found := _SIZE.fullmatch(word):
        sign, number, unit = found.groups()
        size = float(number) * _UNITS[unit or "b"]
        return (0.0, size) if sign[0] == "<" else (size, float("inf"))
    if found := _SPAN.fullmatch(word):
        low, low_unit, high, high_unit = found.groups()
        unit = high_unit or low_unit or "b"
        return float(low) * _UNITS[low_unit or unit], float(high) * _UNITS[unit]
    return None


@cache
def _languages() -> frozenset[str]:
    """The languages that some model names; one that has dozens is taken to have them too."""
    named: set[str] = set()
    for card in load_catalogue():
        named |= set(re.findall(r"\b[A-Z][a-z]+\b", card.languages))
    return frozenset(name.lower() for name in named)
