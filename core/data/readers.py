"""Readers: a file of rows as records, one generator a kind of text file.

They never raise for a bad row; what is wrong is in the record. Numbers start at 1 in each file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import closing
from typing import IO

from core.data.examples import Record
from core.data.files import READ_ERRORS, DataFile, Meter, open_lines, open_text
from core.data.parsing import MAX_RECORD_BYTES, is_unicode, parse_line, too_long
from core.errors import UserError

_HEADER_BYTES = 1 << 20


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
        first = stream.readline(_HEADER_BYTES)
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
