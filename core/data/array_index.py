"""Any row of a big JSON array at once, by its position: where the pass has found each."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from core.data.arrays import Batch
from core.data.elements import Elements
from core.data.examples import Record
from core.data.parallel import Part
from core.data.parsing import MAX_RECORD_BYTES, too_long
from core.data.scanner import with_data
from core.data.store import Numbered

_BLOCK = 1 << 20


class ArrayIndex(Numbered):
    """Where the elements lie that have been counted: 24 bytes a row. A `Store`."""

    def __init__(self) -> None:
        super().__init__()
        self._starts = array("Q")
        self._ends = array("Q")
        self._firsts: list[int] = []  # position of each file's first row
        self._paths: list[Path] = []
        self._last_words: dict[int, Record] = {}
        """By position, the records that stand for the rest of a file."""
        self.complete = False

    def extend(self, part: Part, numbers: Sequence[int], *, lost: bool) -> None:
        """Add the rows of a part, which have these numbers; the last of one that is `lost` says
        why nothing can be read from there on."""
        if part.begins:
            self._firsts.append(len(self._numbers))
            self._paths.append(part.path)
        batch = part.batch
        assert batch is not None
        if lost:
            reader = Elements(str(part.path), numbers[0] - 1)
            *_, last = reader.read(with_data(part.path, batch))
            self._last_words[len(self._numbers) + len(numbers) - 1] = last
        starts = [batch.start, *(end + 1 for end in batch.ends[:-1])]
        known = min(len(numbers), len(batch.ends))
        rest = len(numbers) - known
        self._starts.extend([*starts[:known], *[part.end] * rest])
        self._ends.extend([*batch.ends[:known], *[part.end] * rest])
        self._numbers.extend(numbers)

    def get(self, position: int) -> Record:
        if position in self._last_words:
            return self._last_words[position]
        number, source = self._numbers[position], str(self._path(position))
        raw = self.raw(position)
        if len(raw) > MAX_RECORD_BYTES:
            return too_long(number, source)
        start = self._starts[position]
        batch = Batch(start, (start + len(raw),), raw)
        return next(Elements(source, number - 1).read(batch))

    def raw(self, position: int) -> bytes:
        length = self._ends[position] - self._starts[position]
        return self._read(position, min(length, MAX_RECORD_BYTES + 1))

    def block(self, position: int) -> list[bytes]:
        """The raw rows from this one on, of one file: about a megabyte, one at least."""
        file = bisect_right(self._firsts, position)
        last = self._firsts[file] if file < len(self._firsts) else len(self)
        first = self._starts[position]
        end = max(bisect_right(self._ends, first + _BLOCK, position, last), position + 1)
        if end - position == 1:
            return [self.raw(position)]
        read = self._read(position, self._ends[end - 1] - first)
        return [
            read[start - first : stop - first]
            for start, stop in zip(
                self._starts[position:end], self._ends[position:end], strict=True
            )
        ]

    def place(self, position: int) -> str:
        return f"{self._path(position)}, row {self._numbers[position]}"

    def _read(self, position: int, length: int) -> bytes:
        with self._path(position).open("rb") as stream:
            stream.seek(self._starts[position])
            return stream.read(length)

    def _path(self, position: int) -> Path:
        return self._paths[bisect_right(self._firsts, position) - 1]
