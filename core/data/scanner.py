"""A scanner: the child process that judges one part of a big file after another: lines of JSON,
or elements of an array.

The first message says what to look for (`Orders`), every other names a part of a file; each is
answered with the part's `Tally`. Nothing in the answer depends on how the file was cut or on
how many scanners there are, but the numbers of the rows, which begin at 1 in every part.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from array import array
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.data.arrays import Batch
from core.data.elements import Elements
from core.data.encoding import Encoded, TrainOn, encode
from core.data.examples import Example, FormatName, Record
from core.data.language import language_of
from core.data.near import signature, text_of
from core.data.parsing import MAX_RECORD_BYTES, parse_line, too_long
from core.data.readers import read_lines
from core.data.suspicion import clear_lines
from core.data.tally import Tally
from core.data.tokenizer import Tokenizer, load_tokenizer
from core.data.verdict import Judge

_SCRAMBLE = 0x9E3779B97F4A7C15
_WORD = 1 << 64


@dataclass(frozen=True, slots=True)
class Orders:
    """How a source is inspected. `rate` is the share of the rows that is encoded and compared for
    near-duplicates, `language_rate` the share whose language is told."""

    format: FormatName
    mapping: Mapping[str, str]
    tokenizer: str | None
    max_length: int
    train_on: TrainOn
    rate: float
    language_rate: float


class Scanner:
    """Judges parts of files by its orders."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._judge = Judge(orders.format, orders.mapping, orders.train_on)
        self._tokenizer: Tokenizer | None = (
            load_tokenizer(Path(orders.tokenizer)) if orders.tokenizer else None
        )

    def scan(self, path: Path, start: int, end: int) -> Tally:
        """Judge the lines in a part of a file, which ends at the end of a line."""
        tally = Tally()
        for number, offset, line, clean in _lines(path, start, end):
            tally.lines = number
            if line is not None and (not line or line.isspace()):
                continue
            self._count(tally, _record(number, line), start + offset, clean=clean)
        return tally

    def scan_batch(self, path: Path, batch: Batch, before: int) -> Tally:
        """Judge the elements of a part of an array; there are so many `before` them. A tally that
        is `lost` says that nothing can be read from there on."""
        tally = Tally()
        batch = with_data(path, batch)
        clean = clear_lines([raw or b"" for raw in batch.elements])
        elements = Elements()
        for record, at in elements.read_with_place(batch):
            self._count(tally, record, before + record.number, clean=bool(clean) and clean[at])
        tally.lines, tally.lost = elements.number, int(elements.lost)
        return tally

    def _count(self, tally: Tally, record: Record, place: int, *, clean: bool) -> None:
        """Judge one row and count it; `place` decides whether it is in the samples."""
        rate = self._orders.rate
        verdict = self._judge.judge(record, clean=clean)
        if verdict.example is None or not is_sampled(place, rate):
            tally.add(verdict, whole=rate >= 1)
            return
        tally.add(
            verdict,
            self._encode(verdict.example),
            whole=rate >= 1,
            signature=signature(verdict.example),
            language=self._language(verdict.example, place),
        )

    def _encode(self, example: Example) -> list[Encoded] | None:
        if self._tokenizer is None:
            return None
        orders = self._orders
        return encode(example, self._tokenizer, orders.max_length, orders.train_on)

    def _language(self, example: Example, place: int) -> str:
        sampled = is_sampled(place, self._orders.language_rate)
        return language_of(text_of(example)) if sampled else ""


def is_sampled(place: int, rate: float) -> bool:
    """Whether the row at this place (a byte, or its number) is in the sample: spread evenly, always
    the same."""
    return rate >= 1 or (place * _SCRAMBLE) % _WORD < rate * _WORD


def with_data(path: Path, batch: Batch) -> Batch:
    """The batch with its bytes, unless it is one element that is too long."""
    if not batch.ends or (len(batch.ends) == 1 and batch.ends[0] - batch.start > MAX_RECORD_BYTES):
        return batch
    with path.open("rb") as file:
        file.seek(batch.start)
        return replace(batch, data=file.read(batch.ends[-1] - batch.start))


def _lines(path: Path, start: int, end: int) -> Iterator[tuple[int, int, bytes | None, bool]]:
    """Number, offset and bytes (None: too long) of every line in a part, and whether it is clear
    of what takes a closer look."""
    with path.open("rb") as file:
        file.seek(start)
        if end - start > MAX_RECORD_BYTES:  # a line is so long that the part is
            for number, long_line in read_lines(file, end):
                yield number, file.tell() - start, long_line, False
            return
        lines = file.read(end - start).split(b"\n")
    if not lines[-1]:
        lines.pop()
    offset = 0
    for number, (line, clear) in enumerate(zip(lines, clear_lines(lines), strict=True), 1):
        yield number, offset, line.removesuffix(b"\r"), clear
        offset += len(line) + 1


def _record(number: int, line: bytes | None) -> Record:
    return too_long(number) if line is None else parse_line(number, line)


def answer(scanner: Scanner, request: dict[str, Any]) -> Tally:
    path = Path(request["path"])
    if request["ends"] is None:
        return scanner.scan(path, request["start"], request["end"])
    ends = array("Q", b64decode(request["ends"]))
    batch = Batch(
        request["start"], tuple(ends), b"", request["closing"], trouble=request["trouble"]
    )
    return scanner.scan_batch(path, batch, request["before"])


def main() -> None:
    gc.disable()  # rows hold no cycles, and looking for some costs a third of the time
    os.nice(10)  # the app that waits for this must stay quick
    scanner: Scanner | None = None
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        if scanner is None:
            scanner = Scanner(Orders(**request))
            continue
        tally = answer(scanner, request)
        sys.stdout.write(json.dumps({"job": request["job"], "part": tally.as_part()}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
