"""Parquet and Arrow files, read batch by batch. pyarrow is imported when one is opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core.data.examples import Record
from core.data.files import DataFile, Meter
from core.errors import UserError

_BATCH = 512
_PAGES = 1 << 20


def read_columnar(file: DataFile, meter: Meter | None = None) -> Iterator[Record]:
    """The rows of a parquet or Arrow file, numbered from 1."""
    import pyarrow

    source, number = str(file.path), 0
    try:
        for batch, share in _batches(file):
            for start in range(0, batch.num_rows, _BATCH):
                for value in batch.slice(start, _BATCH).to_pylist():
                    number += 1
                    yield Record(number, value, source=source)
            if meter is not None:
                meter.reach(round(share * file.size))
    except (pyarrow.ArrowException, OSError) as error:
        if number == 0:
            raise UserError(
                f"{source} cannot be read: {str(error).rstrip('.')}.",
                "It may be damaged: copy it anew.",
            ) from error
        reason = f"the file cannot be read from here on: {error}"
        yield Record(number + 1, None, "invalid-json", reason, source)


def _batches(file: DataFile) -> Iterator[tuple[Any, float]]:
    """Batches of rows, and after each the share of the file that has been read."""
    if file.kind == "parquet":
        yield from _parquet_batches(file)
        return
    from pyarrow import ArrowInvalid, ipc, memory_map

    mapped = file.open() if file.remote is not None else memory_map(str(file.path))
    with mapped:
        try:
            reader = ipc.open_file(mapped)
        except ArrowInvalid:  # the streaming layout, which `datasets` writes
            mapped.seek(0)
            for batch in ipc.open_stream(mapped):
                yield batch, mapped.tell() / max(1, file.size)
            return
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index), (index + 1) / reader.num_record_batches


def _parquet_batches(file: DataFile) -> Iterator[tuple[Any, float]]:
    """Pages are read as they are needed, so that a huge row group is never in memory as a whole;
    from the hub a group is read at once, in few requests."""
    from pyarrow import parquet

    remote = file.remote is not None
    with (
        file.open() as stream,
        parquet.ParquetFile(
            stream if remote else file.path,
            pre_buffer=remote,
            buffer_size=0 if remote else _PAGES,
        ) as opened,
    ):
        done, total = 0, max(1, opened.metadata.num_rows)
        for batch in opened.iter_batches(batch_size=_BATCH):
            done += batch.num_rows
            yield batch, done / total
