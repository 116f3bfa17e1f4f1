"""Parquet and Arrow files, read batch by batch. pyarrow is imported when one is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.data.examples import Record
from core.data.files import DataFile, Meter
from core.errors import UserError

_BATCH = 512


def read_columnar(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    """The rows of a parquet or Arrow file, numbered from 1. (The meter moves file by file.)"""
    import pyarrow

    source, number = str(file.path), 0
    try:
        for batch in _batches(file):
            for start in range(0, batch.num_rows, _BATCH):
                for value in batch.slice(start, _BATCH).to_pylist():
                    number += 1
                    yield Record(number, value, source=source)
    except (pyarrow.ArrowException, OSError) as error:
        if number == 0:
            raise UserError(
                f"{source} cannot be read: {error}.", "It may be damaged: copy it anew."
            ) from error
        reason = f"the file cannot be read from here on: {error}"
        yield Record(number + 1, None, "invalid-json", reason, source)


def _batches(file: DataFile) -> Iterator[Any]:
    if file.kind == "parquet":
        from pyarrow import parquet

        with parquet.ParquetFile(file.path) as opened:
            yield from opened.iter_batches(batch_size=_BATCH)
        return
    from pyarrow import ArrowInvalid, ipc, memory_map

    with memory_map(str(file.path)) as mapped:
        try:
            reader = ipc.open_file(mapped)
            yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
        except ArrowInvalid:  # the streaming layout, which `datasets` writes
            mapped.seek(0)
            yield from ipc.open_stream(mapped)
