"""Big files of JSON, lines or an array, are cut into parts that several scanners judge at once.

The parts come back in the order of the source, whatever scanner was quicker, so that the report
is the same with any number of them.
"""

from __future__ import annotations

import os
import queue
from array import array
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from core.children import Child
from core.data.arrays import Batch
from core.data.files import DataFile, Meter
from core.data.json_values import list_batches
from core.data.scanner import Orders
from core.errors import UserError

PART_BYTES = 4 << 20
_MOST_SCANNERS = 8
_PARTS_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines of a file, or the elements of an array in a `batch`, with so many `before` them.
    `begins` is whether they are the file's first, `file` which of the files it is."""

    path: Path
    start: int
    end: int
    begins: bool
    batch: Batch | None = None
    before: int = 0
    file: int = 0

    def as_job(self, number: int) -> dict[str, Any]:
        batch = self.batch
        ends = b64encode(array("Q", batch.ends)).decode() if batch is not None else None
        return {
            "job": number, "path": str(self.path), "start": self.start, "end": self.end,
            "ends": ends, "before": self.before, "closing": batch and batch.closing,
            "trouble": batch.trouble if batch is not None else "",
        }  # fmt: skip


def parts_of(files: Sequence[DataFile], meter: Meter, lost: set[int]) -> Iterator[Part]:
    """Where to cut: always at the same places. A file that is `lost` is given up."""
    for at, file in enumerate(files):
        parts = _parts_of_array(file, meter) if file.kind == "json" else _parts_of_lines(file)
        while at not in lost and (part := next(parts, None)):
            yield replace(part, file=at)


def _parts_of_lines(file: DataFile) -> Iterator[Part]:
    start = file.mark
    with file.path.open("rb") as stream:
        while start < file.size:
            stream.seek(start + PART_BYTES)
            while (rest := stream.readline(PART_BYTES)) and not rest.endswith(b"\n"):
                pass
            end = min(stream.tell(), file.size)
            yield Part(file.path, start, end, start == file.mark)
            start = end


def _parts_of_array(file: DataFile, meter: Meter) -> Iterator[Part]:
    end, before, begins = file.mark, 0, True
    for batch in list_batches(file, meter, PART_BYTES):
        start, end = (batch.start, batch.ends[-1]) if batch.ends else (end, end)
        yield Part(file.path, start, end, begins, replace(batch, data=b"", rest=b""), before)
        before, begins = before + len(batch.ends), False


def scan(
    files: Sequence[DataFile],
    orders: Orders,
    stopped: Event,
    meter: Meter,
    processes: int | None = None,
) -> Iterator[tuple[Part, dict[str, Any]]]:
    """The parts of the files with their tallies, in order. Ends early when `stopped` is set."""
    count = processes or min(_MOST_SCANNERS, os.cpu_count() or 1)
    crew = _Crew(orders, count)
    try:
        pending: dict[int, Part] = {}
        done: dict[int, dict[str, Any]] = {}
        following = 0
        lost: set[int] = set()  # files that cannot be read any further
        jobs = enumerate(parts_of(files, meter, lost))
        while not stopped.is_set():
            while len(pending) < count + _PARTS_AHEAD and (job := next(jobs, None)):
                pending[job[0]] = job[1]
                crew.give(*job)
            if not pending:
                return
            while following in done:
                part, found = pending.pop(following), done.pop(following)
                following += 1
                if part.file in lost:
                    continue
                if found["lost"]:
                    lost.add(part.file)
                    meter.lists[part.path].others.clear()
                yield part, found
            if pending and following not in done:
                number, tally = crew.take()
                done[number] = tally
    finally:
        crew.close()


class _Crew:
    """The scanners, each with a thread that hands it parts one at a time."""

    def __init__(self, orders: Orders, count: int) -> None:
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[dict[str, Any] | UserError] = queue.SimpleQueue()
        self._children: list[Child] = []
        for _ in range(count):
            child = Child("core.data.scanner")
            self._children.append(child)
            child.send(asdict(orders))
            Thread(target=self._serve, args=(child,), daemon=True).start()

    def give(self, number: int, part: Part) -> None:
        self._jobs.put(part.as_job(number))

    def take(self) -> tuple[int, dict[str, Any]]:
        """The next part that is ready, of whatever scanner. UserError when one has died."""
        result = self._results.get()
        if isinstance(result, UserError):
            raise result
        return result["job"], result["part"]

    def close(self) -> None:
        for _ in self._children:
            self._jobs.put({})
        for child in self._children:
            child.close(patience=0.2)

    def _serve(self, child: Child) -> None:
        answers = iter(child)
        while job := self._jobs.get():
            try:
                child.send(job)
                self._results.put(next(answers))
            except (StopIteration, UserError):
                reason = child.last_errors.strip().rpartition("\n")[2] or "it was killed"
                self._results.put(UserError(f"A scanner of the data has ended: {reason}."))
                return
