"""Big JSONL files are cut into parts that several scanners judge at once.

The parts come back in the order of the source, whatever scanner was quicker, so that the report
is the same with any number of them.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from core.children import Child
from core.data.files import DataFile
from core.data.scanner import Orders
from core.errors import UserError

PART_BYTES = 4 << 20
_MOST_SCANNERS = 8
_PARTS_AHEAD = 3


@dataclass(frozen=True, slots=True)
class Part:
    """Some lines of a file. `begins` is whether they are its first."""

    path: Path
    start: int
    end: int
    begins: bool


def parts_of(files: Sequence[DataFile]) -> Iterator[Part]:
    """Where to cut: always at the same places."""
    for file in files:
        start = file.mark
        with file.path.open("rb") as stream:
            while start < file.size:
                stream.seek(start + PART_BYTES)
                while (rest := stream.readline(PART_BYTES)) and not rest.endswith(b"\n"):
                    pass
                end = min(stream.tell(), file.size)
                yield Part(file.path, start, end, start == file.mark)
                start = end


def scan(
    files: Sequence[DataFile], orders: Orders, stopped: Event, processes: int | None = None
) -> Iterator[tuple[Part, dict[str, Any]]]:
    """The parts of the files with their tallies, in order. Ends early when `stopped` is set."""
    count = processes or min(_MOST_SCANNERS, os.cpu_count() or 1)
    crew = _Crew(orders, count)
    try:
        pending: dict[int, Part] = {}
        done: dict[int, dict[str, Any]] = {}
        following = 0
        jobs = enumerate(parts_of(files))
        while not stopped.is_set():
            while len(pending) < count + _PARTS_AHEAD and (job := next(jobs, None)):
                pending[job[0]] = job[1]
                crew.give(*job)
            if not pending:
                return
            while following in done:
                yield pending.pop(following), done.pop(following)
                following += 1
            if pending and following not in done:
                number, part = crew.take()
                done[number] = part
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
        job = {"job": number, "path": str(part.path), "start": part.start, "end": part.end}
        self._jobs.put(job)

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
