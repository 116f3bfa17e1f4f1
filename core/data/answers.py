"""What form an answer has, and whether it seems to end where its author wanted.

Looked at alone an odd form means little: a label needs no full stop, and prose is no broken
JSON. So each answer only gets a form here; `unlike` and `cut_off` compare it with those of all
rows at the end of the pass.
"""

from __future__ import annotations

import numpy as np
import orjson
from numpy.typing import NDArray

Forms = NDArray[np.uint8]
Flags = NDArray[np.bool_]

OTHER, PROSE, SHORT, JSON, BROKEN_JSON, FENCED, MARKUP, WORD = range(8)
"""The forms; code and lists count as prose. `WORD` is a label or a number, `SHORT` a phrase."""
ENDS, STOPS_SHORT, UNCLOSED = 0, 16, 32
"""What is added to a form: the answer ends in the middle of a sentence, or within a block."""
_STRICT = (JSON, FENCED, MARKUP, WORD)
_FORM = 15
_LONG = 60
"""Shorter answers are often names or numbers, which need no full stop."""
_FEWEST = 20
_MOST = 0.8
_ENDING = 0.9
_HALF_WAY = frozenset(",;-–—(/&+=")
_OPENERS = {"{": "}", "[": "]"}


def form_of(answer: str) -> int:
    """The form of an answer, in a byte."""
    text = answer.strip()
    if not text:
        return OTHER
    first, last = text[0], text[-1]
    if first in _OPENERS:
        return _braced(text, first, last)
    if first == "`" and text.startswith("```"):
        return FENCED if text.count("```") % 2 == 0 else FENCED + UNCLOSED
    if first == "<" and last == ">":
        return MARKUP
    if len(text) < _LONG:
        return SHORT if " " in text else WORD
    if "```" in text and text.count("```") % 2:
        return PROSE + UNCLOSED
    return PROSE + STOPS_SHORT if last.isalpha() or last in _HALF_WAY else PROSE


def _braced(text: str, first: str, last: str) -> int:
    """Answers that begin like JSON."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        closed = last == _OPENERS[first] or _OPENERS[first] in text
        return BROKEN_JSON if closed else BROKEN_JSON + UNCLOSED
    return JSON


def unlike(forms: Forms) -> Flags:
    """Answers whose form is not that of nearly all others, where that form is a strict one."""
    kinds = forms & _FORM
    counted = kinds != OTHER
    total = int(counted.sum())
    for form in _STRICT:
        rows = kinds == form
        if total >= _FEWEST and _MOST * total <= rows.sum() < total:
            unlike_most: Flags = counted & ~rows
            return unlike_most
    return np.zeros(len(forms), bool)


def cut_off(forms: Forms) -> Flags:
    """Answers that end within a block; and those that end in the middle of a sentence, where
    nearly all long ones end with a full stop or the like."""
    unclosed: Flags = (forms & UNCLOSED) > 0
    long_prose = (forms & _FORM == PROSE) & ~unclosed
    short: Flags = (forms & STOPS_SHORT) > 0
    total = int(long_prose.sum())
    if total < _FEWEST or short.sum() > (1 - _ENDING) * total:
        return unclosed
    return unclosed | short
