"""JSON files that are not lines: an array of rows, an object that holds one, or values one after
another. A big one is never in memory as a whole.

An object can hold several lists of rows (`{"train": […], "test": […]}`). One of them is read: the
one that is asked for, or the first that by its name is not for evaluation. The others are counted.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import repeat
from typing import Any

from core.data.arrays import Batch, Read, split
from core.data.elements import SPACE, Elements, broken, decoded
from core.data.examples import Record
from core.data.files import READ_ERRORS, DataFile, Lists, Meter, open_lines
from core.data.parsing import MAX_RECORD_BYTES, as_record, describe_json_error
from core.data.parts import is_held_out_name
from core.errors import UserError

ARRAY_KEYS = ("data", "rows", "examples", "train", "conversations", "items", "samples", "records")
_FIRST_CHUNK = 1 << 16
_CHUNK = 1 << 20
_MODEST = 4 << 20
"""Up to this size an object is read at once, to see what it is."""


def read_json(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    """A JSON array, an object that holds one, or values one after another; numbered in order."""
    source, number = str(file.path), 0
    try:
        for record in _records(file, meter or Meter()):
            number = record.number
            yield record
    except READ_ERRORS as error:
        reason = f"the file cannot be read from here on: {error}"
        yield Record(number + 1, None, "invalid-json", reason, source)


def _records(file: DataFile, meter: Meter) -> Iterator[Record]:
    lists = meter.lists[file.path] = Lists(file.part or None)
    with closing(open_lines(file, meter)) as stream:
        yield from JsonValues(stream.read, str(file.path), lists).records()
    if lists.taken is None and lists.wanted:
        has = f"It has {', '.join(list(lists.others)[:8])}." if lists.others else "It has no names."
        raise UserError(f"{file.path} holds no list of rows named {lists.wanted}.", has)
    if lists.taken is None and lists.others:  # all are for evaluation
        only = next(iter(lists.others))
        lists = meter.lists[file.path] = Lists(only)
        with closing(open_lines(file, meter)) as stream:
            yield from JsonValues(stream.read, str(file.path), lists).records()


def is_list(file: DataFile, meter: Meter) -> bool:
    """Whether `list_batches` reads the rows of this plain file. It is looked into unless the meter
    knows."""
    known = meter.lists.get(file.path)
    if known is not None:
        return known.streamed and known.taken is not None
    with closing(open_lines(file)) as stream:
        return stream.read(_FIRST_CHUNK).lstrip()[:1] == b"[" and not file.part


def list_batches(file: DataFile, meter: Meter, size: int) -> Iterator[Batch]:
    """The elements of the list that `read_json` has begun to read of a plain file, in chunks of
    `size` bytes, with their places in the file."""
    known = meter.lists.get(file.path)
    lists = meter.lists[file.path] = Lists((known and known.taken) or None)
    with closing(open_lines(file)) as stream:
        values = JsonValues(stream.read, str(file.path), lists, file.mark)
        yield from values.batches(repeat(size))


class JsonValues:
    """Reads JSON values off a stream of UTF-8 whose first byte has the place `start`, and tells
    `lists` what it finds."""

    def __init__(self, read: Read, source: str, lists: Lists, start: int = 0) -> None:
        self._read_bytes = read
        self._source = source
        self._lists = lists
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._buffer = ""
        self._position = 0
        self._place = start  # of the first byte that is not yet read
        self._ended = False
        self._lost = False  # where the next value begins
        self._size = _FIRST_CHUNK  # little at first: the first rows shall be there soon
        self._whole: dict[str, Any] = {}

    def records(self) -> Iterator[Record]:
        if self._peek() != "[" and (self._peek() != "{" or self._fits()):
            yield from self._sequence()
            return
        elements = Elements(self._source)
        for batch in self.batches(_growing()):
            yield from elements.read(batch)
            if elements.lost:
                self._lists.others.clear()  # so far as they are known: what follows is not
                return
        if self._lists.taken is None and not self._lists.others:
            yield from self._rows_of(as_record(1, self._whole, self._source))

    def batches(self, sizes: Iterable[int]) -> Iterator[Batch]:
        """The elements of an array, or of the list that is read of a big object; the last batch
        may tell of trouble. Of an object without lists there are none."""
        try:
            if self._peek() == "[":
                if self._lists.wanted is None:
                    yield from self._elements("", sizes)
                    if self._peek():
                        raise ValueError("more follows the end of the array")
                return
            yield from self._members(sizes)
        except RecursionError:
            yield Batch(0, (), b"", trouble="it is nested too deeply")
        except json.JSONDecodeError as error:
            yield Batch(0, (), b"", trouble=describe_json_error(error, self._position))
        except ValueError as error:
            yield Batch(0, (), b"", trouble=str(error))

    def _fits(self) -> bool:
        """Whether the value that begins here is of a modest size, or broken. It depends on the
        text alone, not on how much of it has been read."""
        while not self._ended and len(self._buffer) - self._position <= _MODEST:
            self._read(_MODEST)
        text = self._buffer[self._position : self._position + _MODEST + 1]
        try:
            _, end = json.JSONDecoder().raw_decode(text)
        except RecursionError:
            return True
        except ValueError:
            return len(text) <= _MODEST
        return end <= _MODEST

    def _members(self, sizes: Iterable[int]) -> Iterator[Batch]:
        """Reads an object from member to member. Lists of rows are read or counted; without any
        the object is a row itself."""
        self._position += 1
        while self._peek() != "}":
            key = str(self._decode()[0])
            self._pass(":")
            if self._peek() == "[" and self._begins_rows(key):
                if self._lists.wants(key):
                    yield from self._elements(key, sizes)
                else:
                    self._count(key)
            else:
                value, _ = self._decode()
                if self._lists.taken is None:
                    self._whole[key] = value
            if self._peek() != "}":
                self._pass(",")

    def _pass(self, mark: str) -> None:
        if self._peek() != mark:
            raise ValueError(f"{mark!r} is missing")
        self._position += 1

    def _begins_rows(self, key: str) -> bool:
        """Whether the list that begins here holds the rows: objects that are no turns, under a
        telling name or too many to be something else."""
        if not _tells_of_rows(key) and self._fits():
            return False
        while not self._ended and len(self._buffer) - self._position < _CHUNK:
            self._read(_CHUNK)
        # of the text alone, not of what happens to have been read beyond
        text = self._buffer[self._position + 1 : self._position + _CHUNK].lstrip()
        try:
            first, _ = json.JSONDecoder().raw_decode(text)
        except (ValueError, RecursionError):
            return text.startswith("{")  # one that is long
        return isinstance(first, dict) and not _is_turns([first])

    def _elements(self, name: str, sizes: Iterable[int]) -> Iterator[Batch]:
        """The list that begins here; what follows it is read on after the last batch."""
        self._lists.taken, self._lists.streamed = name, True
        yield from self._split(sizes)

    def _count(self, name: str) -> None:
        self._lists.others[name] = 0
        for batch in self._split(_growing()):
            self._lists.others[name] += batch.count
            if batch.closing is not None and batch.closing != "]":
                raise ValueError(f"the list {name} is cut off")

    def _split(self, sizes: Iterable[int]) -> Iterator[Batch]:
        self._position += 1
        waiting = self._buffer[self._position :].encode("utf-8", "surrogateescape")
        waiting += self._decoder.getstate()[0]
        first = [waiting] if waiting else []

        def read(size: int) -> bytes:
            return first.pop() if first else self._read_bytes(size)

        self._buffer, self._position = "", 0
        self._decoder.reset()
        for batch in split(read, self._place - len(waiting), sizes):
            yield batch
            self._buffer = self._decoder.decode(batch.rest)
            self._place = batch.ends[-1] + 1 + len(batch.rest)

    def _sequence(self) -> Iterator[Record]:
        first = self._next(1)
        if self._lost or self._peek() == "":
            yield from self._rows_of(first)
            return
        if self._lists.wanted:
            return
        yield first
        number = 1
        while not self._lost and self._peek() != "":
            number += 1
            yield self._next(number)

    def _rows_of(self, record: Record) -> Iterator[Record]:
        """The rows in a file's only value."""
        rows = self._rows_in(record.value) if record.problem is None else None
        if rows is not None:
            for number, value in enumerate(rows, 1):
                yield as_record(number, value, self._source)
        elif not self._lists.wanted:
            yield record

    def _rows_in(self, value: dict[str, Any]) -> list[Any] | None:
        """The rows that an object holds; None when it is a row itself."""
        found = {key: item for key, item in value.items() if _is_list_of_rows(item)}
        usual = [key for key in found if not is_held_out_name(key)]
        order = [*filter(_tells_of_rows, usual), *usual, *found]
        wanted = self._lists.wanted
        taken = wanted if wanted is not None else next(iter(order), None)
        self._lists.others = {key: len(rows) for key, rows in found.items() if key != taken}
        if taken in found:
            self._lists.taken = taken
            return list(found[taken])
        return None if wanted else _rows_by_column_or_index(value)

    def _next(self, number: int) -> Record:
        """The value that begins here."""
        self._peek()
        try:
            value, text = self._decode()
        except json.JSONDecodeError as error:
            return self._broken(number, describe_json_error(error, self._position))
        except ValueError as error:
            return self._broken(number, str(error))
        except RecursionError:
            return self._broken(number, "it is nested too deeply")
        return decoded(number, value, text, self._source)

    def _broken(self, number: int, reason: str) -> Record:
        self._lost = True
        return broken(number, reason, self._source)

    def _decode(self) -> tuple[Any, str]:
        """The next value and its text. More is read, twice as much each time, until it fits."""
        decoder = json.JSONDecoder()
        self._peek()
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
            match = SPACE.match(self._buffer, self._position)
            assert match is not None
            self._position = match.end()
            if self._position < len(self._buffer) or self._ended:
                return self._buffer[self._position : self._position + 1]
            self._read(self._size)
            self._size = min(2 * self._size, _CHUNK)

    def _read(self, size: int) -> None:
        chunk = self._read_bytes(size)
        self._ended = not chunk
        self._place += len(chunk)
        text = self._decoder.decode(chunk, self._ended)
        self._buffer = self._buffer[self._position :] + text
        self._position = 0


def _growing() -> Iterator[int]:
    """Sizes of chunks: little at first, so that the first rows are there soon."""
    size = _FIRST_CHUNK
    while True:
        yield size
        size = min(2 * size, _CHUNK)


def _tells_of_rows(name: str) -> bool:
    """Whether a list of this name holds rows."""
    return name in ARRAY_KEYS or is_held_out_name(name)


def _is_list_of_rows(item: Any) -> bool:
    return _is_list_of_objects(item) and not _is_turns(item)


def _rows_by_column_or_index(value: dict[str, Any]) -> list[Any] | None:
    """Columns of equal length, or rows by index, as a list of rows."""
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
