"""Where the elements of a JSON array begin and end, found without parsing them.

A chunk of bytes is looked at with a few array operations: quotes tell what is text, brackets
outside of text how deep it is, and commas at the depth of the array part its elements. That is
many times faster than parsing, so that parsing can be left to several processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from core.data.parsing import MAX_RECORD_BYTES

Read = Callable[[int], bytes]
_QUOTE, _OPEN, _CLOSE, _COMMA = 1, 2, 3, 4
_KINDS = bytes(
    {34: _QUOTE, 91: _OPEN, 123: _OPEN, 93: _CLOSE, 125: _CLOSE, 44: _COMMA}.get(byte, 0)
    for byte in range(256)
)
_STEPS = np.array([0, 0, 1, -1, 0], np.int64)
_BACKSLASH = 92
Positions = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive elements of an array. `start` is where the first begins, `ends` are where each
    ends (the comma or bracket after it), counted in the bytes of the text.

    `data` are the bytes from `start` on; empty for an element that is too long to be kept.
    `closing` is the bracket that ends the array after the last element, empty where the text just
    ends, and None where more elements follow; `rest` is what was read beyond that bracket.
    A batch with a `trouble` has no elements: it says why nothing can be read from here on.
    """

    start: int
    ends: tuple[int, ...]
    data: bytes
    closing: str | None = None
    rest: bytes = b""
    trouble: str = ""

    @property
    def elements(self) -> list[bytes | None]:
        """The text of each element; None for one that is too long."""
        if not self.ends:
            return []
        if len(self.data) < self.ends[-1] - self.start:
            return [None]
        edges = [-1, *(end - self.start for end in self.ends)]
        return [
            self.data[before + 1 : end] if end - before <= MAX_RECORD_BYTES else None
            for before, end in pairwise(edges)
        ]

    @property
    def count(self) -> int:
        """How many elements there are."""
        if not self.ends or self.closing is None:
            return len(self.ends)
        last = self.ends[-2] + 1 if len(self.ends) > 1 else self.start
        empty = last >= self.start and not self.data[last - self.start :].strip(b" \t\r\n]")
        return len(self.ends) - (empty and self.ends[-1] - last <= MAX_RECORD_BYTES)


class _Nesting:
    """Follows strings and brackets from chunk to chunk."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = 0
        self._escapes = 0  # backslashes at the end of the last chunk, if their number is odd

    def commas(self, chunk: bytes) -> tuple[Positions, int]:
        """Where the array has its commas in this chunk, and where it ends (-1: not in here)."""
        kinds = np.frombuffer(chunk.translate(_KINDS), np.uint8)
        at = np.flatnonzero(kinds != 0)
        kinds = kinds[at]
        quotes = kinds == _QUOTE
        if self._escapes or b"\\" in chunk:
            quotes[quotes] = ~self._escaped(chunk, at[quotes])
        inside = (np.cumsum(quotes) + self._in_string) & 1
        self._in_string = int(inside[-1]) if len(inside) else self._in_string
        outside = (inside == 0) & (kinds != _QUOTE)
        at, kinds = at[outside], kinds[outside]
        depths = np.cumsum(_STEPS[kinds]) + self._depth
        self._depth = int(depths[-1]) if len(depths) else self._depth
        commas = at[(kinds == _COMMA) & (depths == 0)]
        closed = np.flatnonzero(depths < 0)
        if not len(closed):
            return commas, -1
        end = int(at[closed[0]])
        return commas[commas < end], end

    def _escaped(self, chunk: bytes, quotes: Positions) -> Flags:
        """Which quotes follow an odd number of backslashes."""
        slashes = np.flatnonzero(np.frombuffer(chunk, np.uint8) == _BACKSLASH)
        if self._escapes:  # one more of them, at the end of the last chunk
            slashes = np.concatenate(([-1], slashes))
        begins = np.diff(slashes, prepend=-3) > 1
        firsts = slashes[begins][np.cumsum(begins) - 1]  # of the run that each is in
        at = np.searchsorted(slashes, quotes - 1).clip(max=len(slashes) - 1)
        odd: Flags = (slashes[at] == quotes - 1) & ((quotes - firsts[at]) % 2 == 1)
        ends_with_one = slashes[-1] == len(chunk) - 1
        self._escapes = int(ends_with_one and (len(chunk) - firsts[-1]) % 2)
        return odd


def split(read: Read, start: int, sizes: Iterable[int]) -> Iterator[Batch]:
    """The elements of the array whose first begins at the byte `start`, from where `read` goes
    on, in chunks of these sizes. The last batch, and it alone, has a `closing`."""
    nesting = _Nesting()
    kept: list[bytes] = []  # of an element whose end is not yet seen, unless it is too long
    length = 0  # of what of it was read
    for size in sizes:
        chunk = read(size)
        if not chunk:
            yield Batch(start, (start + length,), b"".join(kept), closing="")
            return
        commas, end = nesting.commas(chunk)
        base = start + length
        ends: list[int] = (commas + base).tolist()
        if end >= 0:
            closing, rest = chunk[end : end + 1].decode(), chunk[end + 1 :]
            ends.append(base + end + (closing == "}"))  # no array ends with that one
            yield from _batches(start, ends, length, [*kept, chunk[: end + 1]], closing, rest)
            return
        if ends:
            upto = ends[-1] - base
            yield from _batches(start, ends, length, [*kept, chunk[:upto]])
            start, length, chunk = ends[-1] + 1, 0, chunk[upto + 1 :]
            kept = []
        length += len(chunk)
        kept.append(chunk)
        if length > MAX_RECORD_BYTES:
            kept = []


def _batches(
    start: int, ends: list[int], length: int, pieces: list[bytes], closing: str | None = None,
    rest: bytes = b"",
) -> Iterator[Batch]:  # fmt: skip
    """The elements that end at `ends` as one batch; the first apart where it is too long, of
    which `length` bytes lie before the last of the pieces."""
    if length > MAX_RECORD_BYTES:
        alone = len(ends) == 1
        last, beyond = (closing, rest) if alone else (None, b"")
        yield Batch(start, tuple(ends[:1]), b"", last, beyond)
        if alone:
            return
        pieces = [pieces[-1][ends[0] + 1 - start - length :]]
        start, ends = ends[0] + 1, ends[1:]
    yield Batch(start, tuple(ends), b"".join(pieces), closing, rest)
