"""Any row of a source at once, by its position: an index of lines, or a spool on disk."""

from __future__ import annotations

import json
import pickle
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from tempfile import TemporaryFile
from threading import Event, Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core.data.examples import Record
from core.data.files import DataFile
from core.data.parsing import MAX_RECORD_BYTES, parse_line, too_long

Positions = NDArray[np.int64]
_FIRST_CHUNK = 1 << 18
_CHUNK = 8 << 20
_BLOCK = 1 << 20
_BLANKS = np.frombuffer(b" \t\r\n\x0b\x0c", np.uint8)


class Store(Protocol):
    """Rows by position (from 0). `len` grows while the source is read."""

    complete: bool

    def __len__(self) -> int: ...

    def number(self, position: int) -> int: ...

    def at_or_after(self, number: int) -> int: ...

    def position(self, number: int) -> int | None: ...

    def get(self, position: int) -> Record: ...

    def raw(self, position: int) -> bytes: ...

    def block(self, position: int) -> list[bytes]: ...

    def place(self, position: int) -> str: ...


class Numbered:
    """Positions of rows from their numbers, which rise, and back."""

    def __init__(self) -> None:
        self._numbers = array("Q")

    def __len__(self) -> int:
        return len(self._numbers)

    def number(self, position: int) -> int:
        return self._numbers[position]

    def at_or_after(self, number: int) -> int:
        return bisect_left(self._numbers, number)

    def position(self, number: int) -> int | None:
        at = self.at_or_after(number)
        return at if at < len(self) and self._numbers[at] == number else None


class LineIndex(Numbered):
    """Where the lines of plain JSONL files begin: 16 bytes a row, built in a thread of its own.

    `begun` is set when the first rows are there.
    """

    def __init__(self, files: Sequence[DataFile]) -> None:
        super().__init__()
        self._files = files
        self._starts = array("Q")
        self._firsts: list[int] = []  # position of each file's first row
        self._bases: list[int] = []  # what is added to its line numbers
        self._lock = Lock()
        self.begun = Event()
        self.complete = False

    def build(self, stopped: Event) -> None:
        """Index all files, chunk by chunk, until that is done or `stopped` is set."""
        for file in self._files:
            self._firsts.append(len(self._numbers))
            self._bases.append(self._numbers[-1] if self._numbers else 0)
            self._build_file(file, stopped)
        self.complete = not stopped.is_set()

    def _build_file(self, file: DataFile, stopped: Event) -> None:
        line, start = self._bases[-1] + 1, file.mark
        with file.path.open("rb") as stream:
            stream.seek(file.mark)
            size = _FIRST_CHUNK
            while (chunk := stream.read(size)) and not stopped.is_set():
                chunk += stream.readline()  # end at the end of a line
                starts = _line_starts(chunk)
                kept = _with_content(chunk, starts)
                with self._lock:
                    self._starts.extend((starts[kept] + start).tolist())
                    self._numbers.extend((line + kept).tolist())
                line += len(starts)
                start += len(chunk)
                size = _CHUNK
                self.begun.set()

    def get(self, position: int) -> Record:
        number = self._numbers[position]
        source = str(self._file(position).path)
        line = self.raw(position)
        if len(line) >= MAX_RECORD_BYTES:
            return too_long(number, source)
        return parse_line(number, line, source)

    def raw(self, position: int) -> bytes:
        with self._file(position).path.open("rb") as stream:
            stream.seek(self._starts[position])
            return stream.readline(MAX_RECORD_BYTES).rstrip(b"\r\n")

    def block(self, position: int) -> list[bytes]:
        """The raw rows from this one on, of one file: about a megabyte, one at least."""
        at = bisect_right(self._firsts, position) - 1
        last = self._firsts[at + 1] if at + 1 < len(self._firsts) else len(self)
        first = self._starts[position]
        # up to a row whose beginning tells where the one before it ends
        end = max(bisect_right(self._starts, first + _BLOCK, position, last) - 1, position + 1)
        if end - position == 1:
            return [self.raw(position)]
        with self._files[at].path.open("rb") as stream:
            stream.seek(first)
            read = stream.read(self._starts[end] - first)
        edges = [start - first for start in self._starts[position : end + 1]]
        return [read[start:stop] for start, stop in pairwise(edges)]

    def _file(self, position: int) -> DataFile:
        return self._files[bisect_right(self._firsts, position) - 1]

    def place(self, position: int) -> str:
        """`file:line`."""
        at = bisect_right(self._firsts, position) - 1
        return f"{self._files[at].path}:{self._numbers[position] - self._bases[at]}"


def _line_starts(chunk: bytes) -> Positions:
    ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == 10)
    return np.concatenate(([0], ends[ends + 1 < len(chunk)] + 1))


def _with_content(chunk: bytes, starts: Positions) -> Positions:
    """Which lines are more than white space (only those that begin with it are looked at)."""
    kept = np.ones(len(starts), bool)
    firsts = np.frombuffer(chunk, np.uint8)[starts]
    for suspect in np.flatnonzero(np.isin(firsts, _BLANKS)).tolist():
        begin = int(starts[suspect])
        end = chunk.find(b"\n", begin)
        kept[suspect] = bool(chunk[begin : end if end >= 0 else len(chunk)].strip())
    return np.flatnonzero(kept)


class Spool(Numbered):
    """Rows of all other files, put aside in a temporary file as the pass reads them."""

    def __init__(self) -> None:
        super().__init__()
        self._file = TemporaryFile()  # noqa: SIM115 - lives as long as the spool
        self._starts = array("Q", [0])
        self._lock = Lock()
        self.complete = False

    def append(self, record: Record) -> None:
        data = pickle.dumps(record, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            self._file.seek(self._starts[-1])
            self._file.write(data)
            self._starts.append(self._starts[-1] + len(data))
            self._numbers.append(record.number)

    def get(self, position: int) -> Record:
        with self._lock:
            self._file.seek(self._starts[position])
            data = self._file.read(self._starts[position + 1] - self._starts[position])
        record: Record = pickle.loads(data)  # written by ourselves a moment ago
        return record

    def raw(self, position: int) -> bytes:
        return json.dumps(self.get(position).value, ensure_ascii=False, default=str).encode(
            "utf-8", "replace"
        )

    def block(self, position: int) -> list[bytes]:
        return [self.raw(position)]

    def place(self, position: int) -> str:
        return f"{self.get(position).source}, row {self._numbers[position]}"
