"""One row's bytes → its value, or the code and the reason why not."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import orjson

from core.data.examples import Record

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""Rows longer than this are counted, never parsed."""


_DIGITS_AS_ZEROS = bytes(48 if 48 <= byte < 58 else 0 for byte in range(256))
_LONG_NUMBER = b"0" * 19


def may_hold_long_number(text: bytes) -> bool:
    """Whether an integer of it may lie beyond 64 bits, where orjson would round it."""
    return _LONG_NUMBER in text.translate(_DIGITS_AS_ZEROS)


def parse_line(number: int, line: bytes, source: str = "") -> Record:
    """A line of JSON as a record. Its number, value or problem; never an exception."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return _explain(number, line, str(error), source)
    if may_hold_long_number(line):
        with suppress(RecursionError):  # so deep, the rounded number is the lesser evil
            value = json.loads(line)
    return as_record(number, value, source)


def _explain(number: int, line: bytes, reason: str, source: str) -> Record:
    """Why a line cannot be read: the slow road, for bad lines only."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return _bad(number, "encoding", f"it is not UTF-8 (byte {error.start + 1})", source)
    try:
        value = json.loads(text)
    except ValueError as error:
        return _bad(number, "invalid-json", describe_json_error(error), source)
    except RecursionError:
        return _bad(number, "invalid-json", "it is nested too deeply", source)
    if not is_encodable(text, value):
        return _bad(number, "encoding", "it holds half of a surrogate pair", source)
    return _bad(number, "invalid-json", reason[:1].lower() + reason[1:], source)


def too_long(number: int, source: str = "") -> Record:
    return _bad(number, "too-long", f"it is longer than {MAX_RECORD_BYTES >> 20} MiB", source)


def as_record(number: int, value: Any, source: str = "") -> Record:
    """A parsed value as a record: rows are objects."""
    if isinstance(value, dict):
        return Record(number, value, source=source)
    kind = {list: "an array", str: "a string", type(None): "null", bool: "true or false"}
    return _bad(number, "not-an-object", f"it is {kind.get(type(value), 'a number')}", source)


def is_encodable(text: str, value: Any) -> bool:
    """Whether every string in `value` can be written as UTF-8 (no lone surrogates)."""
    if "\\ud" not in text.lower():
        return True
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def is_unicode(text: str) -> bool:
    """Whether there is no half of a surrogate pair in it, which stands for a wrong byte."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def describe_json_error(error: ValueError, start: int = 0) -> str:
    """What is wrong with a value, and at which of its characters; it begins at `start`."""
    if isinstance(error, json.JSONDecodeError):
        message = error.msg[:1].lower() + error.msg[1:]
        return f"{message} (character {error.pos - start + 1})"
    return str(error)


def _bad(number: int, code: str, detail: str, source: str) -> Record:
    return Record(number, None, code, detail, source)
