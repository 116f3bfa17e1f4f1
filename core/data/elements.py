"""The elements of a JSON array as records, whoever found where they begin and end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import orjson

from core.data.arrays import Batch
from core.data.examples import Record
from core.data.parsing import (
    as_record,
    describe_json_error,
    is_encodable,
    is_unicode,
    may_hold_long_number,
    too_long,
)

SPACE = re.compile(r"[\s\x00]*")
"""What may stand between values: more than JSON allows."""
CUT_OFF = "the array is cut off or lacks a comma here"


class Elements:
    """Reads batch after batch of one array. `number` is that of the last record; once `lost`,
    nobody knows where the next element begins."""

    def __init__(self, source: str = "", number: int = 0) -> None:
        self._source = source
        self.number = number
        self.lost = False

    def read(self, batch: Batch) -> Iterator[Record]:
        """The records of a batch, up to where it cannot be read."""
        for record, _ in self.read_with_place(batch):
            yield record

    def read_with_place(self, batch: Batch) -> Iterator[tuple[Record, int]]:
        """The records, each with the position of its element in the batch."""
        if batch.trouble:
            yield self._broken(batch.trouble), 0
            return
        elements = batch.elements
        exact = may_hold_long_number(batch.data)
        for at, raw in enumerate(elements):
            record = self._quickly(raw, exact)
            if record is not None:
                yield record, at
            else:
                assert raw is not None
                closing = batch.closing if at == len(elements) - 1 else None
                for record in self._closely(raw, closing):
                    yield record, at
            if self.lost:
                return
        if batch.closing == "":
            yield self._broken(CUT_OFF), len(elements) - 1

    def _quickly(self, raw: bytes | None, exact: bool) -> Record | None:
        """An element in the usual way; None when that does not do."""
        if raw is None:
            self.number += 1
            return too_long(self.number, self._source)
        if exact and may_hold_long_number(raw):
            return None
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return None
        self.number += 1
        return as_record(self.number, value, self._source)

    def _closely(self, raw: bytes, closing: str | None) -> Iterator[Record]:
        """An element that orjson does not take or would round: another parser may, or says what
        is wrong."""
        text = raw.decode("utf-8", "surrogateescape")
        start = _after_space(text, 0)
        if start == len(text) and closing is not None:
            return  # a comma after the last element, or none at all
        try:
            value, end = json.JSONDecoder().raw_decode(text, start)
        except ValueError as error:
            yield self._broken(describe_json_error(error, start))
            return
        except RecursionError:
            yield self._broken("it is nested too deeply")
            return
        self.number += 1
        yield decoded(self.number, value, text[start:end], self._source)
        if _after_space(text, end) < len(text):
            yield self._broken(CUT_OFF)

    def _broken(self, reason: str) -> Record:
        self.number += 1
        self.lost = True
        return broken(self.number, reason, self._source)


def _after_space(text: str, start: int) -> int:
    match = SPACE.match(text, start)
    assert match is not None
    return match.end()


def decoded(number: int, value: object, text: str, source: str) -> Record:
    """A value as a record, if the text that it was parsed from is Unicode."""
    if not is_unicode(text):
        return Record(number, None, "encoding", "it is not UTF-8", source)
    if not is_encodable(text, value):
        return Record(number, None, "encoding", "it holds half of a surrogate pair", source)
    return as_record(number, value, source)


def broken(number: int, reason: str, source: str) -> Record:
    """The record that stands for the rest of a file."""
    return Record(number, None, "invalid-json", f"{reason}; what follows cannot be read", source)
