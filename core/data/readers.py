"""Readers: a file of rows as records, one generator a kind of text file.

They never raise for a bad row; what is wrong is in the record. Numbers start at 1 in each file.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import IO, Any

from core.data.examples import Record
from core.data.files import READ_ERRORS, DataFile, Meter, open_lines, open_text
from core.data.parsing import (
    MAX_RECORD_BYTES,
    as_record,
    describe_json_error,
    is_encodable,
    is_unicode,
    parse_line,
    too_long,
)
from core.errors import UserError

ARRAY_KEYS = ("data", "rows", "examples", "train", "conversations", "items", "samples", "records")
_SPACE = re.compile(r"[\s\x00]*")
_FIRST_CHUNK = 1 << 16
_CHUNK = 1 << 20
_MODEST = 4 << 20
"""Up to this size an object is read at once, to see what it is."""


def read_lines(stream: IO[bytes], end: int | None = None) -> Iterator[tuple[int, bytes | None]]:
    """Numbered lines without their ends, blank ones left out; None for one that is too long."""
    number = 0
    while (end is None or stream.tell() < end) and (line := stream.readline(MAX_RECORD_BYTES)):
        number += 1
        if len(line) == MAX_RECORD_BYTES and not line.endswith(b"\n"):
            while (rest := stream.readline(MAX_RECORD_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif not line.isspace():
            yield number, line.rstrip(b"\r\n")


def read_jsonl(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    """JSON lines; the number is the line's."""
    source, number = str(file.path), 0
    try:
        with closing(open_lines(file, meter)) as stream:
            for number, line in read_lines(stream):
                yield (
                    too_long(number, source) if line is None else parse_line(number, line, source)
                )
    except READ_ERRORS as error:
        yield _cut_off(number + 1, error, source)


def read_text(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    """Plain text, a row a line, as `datasets` reads it."""
    source, number = str(file.path), 0
    try:
        with closing(open_lines(file, meter)) as stream:
            for number, line in read_lines(stream):
                yield too_long(number, source) if line is None else _text(number, line, source)
    except READ_ERRORS as error:
        yield _cut_off(number + 1, error, source)


def read_document(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    """A Markdown file is one row."""
    source = str(file.path)
    try:
        with closing(open_lines(file, meter)) as stream:
            content = stream.read(MAX_RECORD_BYTES + 1)
    except READ_ERRORS as error:
        yield _cut_off(1, error, source)
        return
    long = len(content) > MAX_RECORD_BYTES
    yield too_long(1, source) if long else _text(1, content, source)


def _text(number: int, line: bytes, source: str) -> Record:
    try:
        return Record(number, {"text": line.decode("utf-8")}, source=source)
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 (byte {error.start + 1})"
        return Record(number, None, "encoding", reason, source)


def _cut_off(number: int, error: BaseException, source: str) -> Record:
    reason = f"the file cannot be read from here on: {error}"
    return Record(number, None, "invalid-json", reason, source)


def read_table(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    """CSV and TSV with a header line; the number counts the rows below it."""
    source, number = str(file.path), 0
    csv.field_size_limit(MAX_RECORD_BYTES)
    try:
        with closing(open_text(file, meter)) as stream:
            rows = csv.reader(stream, delimiter=_delimiter(file), strict=False)
            header = [name.strip() for name in next(rows, [])]
            _check_header(header, source)
            for cells in rows:
                if cells:
                    number += 1
                    yield _table_record(number, header, cells, source)
    except (csv.Error, *READ_ERRORS) as error:
        yield _cut_off(number + 1, error, source)


def _delimiter(file: DataFile) -> str:
    if file.kind == "tsv":
        return "\t"
    with closing(open_text(file)) as stream:
        first = stream.readline(_CHUNK)
    return max(",;\t|", key=first.count)


def _check_header(header: list[str], source: str) -> None:
    if len(set(header)) < len(header) or not any(header):
        raise UserError(
            f"The first line of {source} does not name the columns.",
            "Give it a header line in which every name is there once.",
        )


def _table_record(number: int, header: list[str], cells: list[str], source: str) -> Record:
    if not all(map(is_unicode, cells)):
        return Record(number, None, "encoding", "it is not UTF-8", source)
    if len(cells) > len(header):
        reason = f"it has {len(cells)} cells under {len(header)} column names"
        return Record(number, None, "not-an-object", reason, source)
    return Record(number, dict(zip(header, cells, strict=False)), source=source)


def read_json(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    """A JSON array, an object that holds one, or values one after another; numbered in order."""
    source = str(file.path)
    try:
        with closing(open_text(file, meter)) as stream:
            yield from _JsonValues(stream, source).records()
    except READ_ERRORS as error:
        yield _cut_off(1, error, source)


class _JsonValues:
    """Reads JSON values off a stream, so that a big array is never in memory as a whole."""

    def __init__(self, stream: IO[str], source: str) -> None:
        self._stream = stream
        self._source = source
        self._buffer = ""
        self._position = 0
        self._ended = False
        self._lost = False  # where the next value begins
        self._size = _FIRST_CHUNK  # little at first: the first rows shall be there soon

    def records(self) -> Iterator[Record]:
        first = self._peek()
        if first == "[":
            self._position += 1
            yield from self._elements()
        elif first == "{" and not self._fits():
            yield from self._members()
        else:
            yield from self._sequence()

    def _fits(self) -> bool:
        """Whether the value that begins here is of a modest size, or broken."""
        while not self._ended and len(self._buffer) - self._position < _MODEST:
            self._read(_MODEST)
        try:
            json.JSONDecoder().raw_decode(self._buffer, self._position)
        except RecursionError:
            return True
        except ValueError:
            return self._ended
        return True

    def _members(self) -> Iterator[Record]:
        """The rows in a big object, from the first of its members that is a list of rows; the
        members before it are skipped. Without any the object is a row itself."""
        whole: dict[str, Any] = {}
        self._position += 1
        try:
            while self._peek() not in ("}", ""):
                key, _ = self._decode()
                self._pass(":")
                if self._peek() == "[" and self._begins_rows(str(key)):
                    self._position += 1
                    yield from self._elements()
                    return
                whole[str(key)], _ = self._decode()
                if self._peek() != "}":
                    self._pass(",")
        except ValueError as error:
            yield self._broken(1, describe_json_error(error))
        except RecursionError:
            yield self._broken(1, "it is nested too deeply")
        else:
            yield from self._rows_of(as_record(1, whole, self._source))

    def _pass(self, mark: str) -> None:
        if self._peek() != mark:
            raise ValueError(f"{mark!r} is missing")
        self._position += 1

    def _begins_rows(self, key: str) -> bool:
        """Whether the list that begins here holds the rows: objects that are no turns, under a
        telling name or too many to be something else."""
        if key not in ARRAY_KEYS and self._fits():
            return False
        while not self._ended and len(self._buffer) - self._position < _CHUNK:
            self._read(_CHUNK)
        start = self._position + 1
        while self._buffer[start : start + 1].isspace():
            start += 1
        try:
            first, _ = json.JSONDecoder().raw_decode(self._buffer, start)
        except (ValueError, RecursionError):
            return self._buffer[start : start + 1] == "{"  # one that is long
        return isinstance(first, dict) and not _is_turns([first])

    def _elements(self) -> Iterator[Record]:
        number = 0
        while self._peek() not in ("]", ""):
            number += 1
            yield self._next(number)
            if self._lost:
                return
            if self._peek() == ",":
                self._position += 1
            elif self._peek() != "]":
                yield self._broken(number + 1, "the array is cut off or lacks a comma here")
                return

    def _sequence(self) -> Iterator[Record]:
        first = self._next(1)
        if self._lost or self._peek() == "":
            yield from self._rows_of(first)
            return
        yield first
        number = 1
        while not self._lost and self._peek() != "":
            number += 1
            yield self._next(number)

    def _rows_of(self, record: Record) -> Iterator[Record]:
        """The rows in a file's only value."""
        rows = rows_in(record.value) if record.problem is None else None
        if rows is None:
            yield record
            return
        for number, value in enumerate(rows, 1):
            yield as_record(number, value, self._source)

    def _next(self, number: int) -> Record:
        """The value that begins here."""
        self._peek()
        try:
            value, text = self._decode()
        except ValueError as error:
            return self._broken(number, describe_json_error(error))
        except RecursionError:
            return self._broken(number, "it is nested too deeply")
        if not is_unicode(text):
            return Record(number, None, "encoding", "it is not UTF-8", self._source)
        if not is_encodable(text, value):
            reason = "it holds half of a surrogate pair"
            return Record(number, None, "encoding", reason, self._source)
        return as_record(number, value, self._source)

    def _broken(self, number: int, reason: str) -> Record:
        self._lost = True
        detail = f"{reason}; what follows cannot be read"
        return Record(number, None, "invalid-json", detail, self._source)

    def _decode(self) -> tuple[Any, str]:
        """The next value and its text. More is read, twice as much each time, until it fits."""
        decoder = json.JSONDecoder()
        size = _CHUNK
        while True:
            try:
                value, end = decoder.raw_decode(self._buffer, self._position)
                if end < len(self._buffer) or self._ended:
                    text = self._buffer[self._position : end]
                    self._position = end
                    return value, text
            except ValueError:
                if self._ended or len(self._buffer) - self._position > MAX_RECORD_BYTES:
                    raise
            self._read(size)
            size *= 2

    def _peek(self) -> str:
        """The next character that is not white space, empty at the end; moves up to it."""
        while True:
            match = _SPACE.match(self._buffer, self._position)
            assert match is not None
            self._position = match.end()
            if self._position < len(self._buffer) or self._ended:
                return self._buffer[self._position : self._position + 1]
            self._read(self._size)
            self._size = min(2 * self._size, _CHUNK)

    def _read(self, size: int) -> None:
        chunk = self._stream.read(size)
        self._ended = not chunk
        self._buffer = self._buffer[self._position :] + chunk
        self._position = 0


def rows_in(value: dict[str, Any]) -> list[Any] | None:
    """The rows that an object holds: a list of objects under one of its keys, columns of equal
    length, or rows by index. None when the object is a row itself."""
    lists = {key: item for key, item in value.items() if _is_list_of_objects(item)}
    for key in (*ARRAY_KEYS, *lists):
        if key in lists and not _is_turns(lists[key]):
            return list(lists[key])
    columns = [item for item in value.values() if isinstance(item, list)]
    even = len(columns) == len(value) and len({len(item) for item in columns}) == 1
    if even and not any(map(_is_turns, columns)):
        return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
    if value and all(key.isdigit() and isinstance(item, dict) for key, item in value.items()):
        return list(value.values())
    return None


def _is_list_of_objects(item: Any) -> bool:
    return isinstance(item, list) and bool(item) and all(isinstance(one, dict) for one in item)


def _is_turns(item: Any) -> bool:
    """Whether this list is a conversation, so that the object around it is a row."""
    return _is_list_of_objects(item) and all(
        ("role" in one or "from" in one) and ("content" in one or "value" in one) for one in item
    )
