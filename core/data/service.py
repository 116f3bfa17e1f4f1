"""The data service: the child process behind `DataClient`.

Requests and replies are JSON lines on stdin and stdout. The pass runs in one thread, the index
of rows in another, and requests are answered on the main thread while both go on. It ends when
its stdin does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from core.data.cleaning import save_clean, write_clean
from core.data.exact import tokens_of
from core.data.inspection import Inspection
from core.data.preview import detail_of, preview_of, searchable
from core.data.problems import codes_of
from core.data.report import Leakage
from core.data.rows import (
    CleanCopy,
    Opened,
    Page,
    RowDetail,
    RowTokens,
)
from core.data.sources import resolve
from core.data.store import LineIndex, Spool, Store
from core.data.tokenizer import Tokenizer, load_tokenizer
from core.data.trial import try_mapping
from core.data.verdict import Verdict
from core.errors import UserError, describe_os_error
from core.hardware.host import cores
from core.text import printable

Tell = Callable[[dict[str, Any]], None]
_PROGRESS_SECONDS = 0.5
_REPORT_SECONDS = 1.0
_FIRST_ROWS = 50
_PATIENCE_SECONDS = 0.5
_SEARCH_SECONDS = 0.15


def _stand_back() -> None:
    """Give way: who waits for an answer or a key comes before the pass. On Linux a thread has a
    priority of its own; elsewhere this does nothing."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _scanners() -> int:
    """One core is left to the app: with all of them at work a key waited 73 ms for its answer."""
    return max(1, cores() - 1)


class Session:
    """One open source: its pass, its rows, its tokens."""

    def __init__(self, request: dict[str, Any], tell: Tell) -> None:
        self._tell = tell
        self._generation = request["generation"]
        self._max_length = int(request["max_length"])
        self._train_on = request["train_on"]
        folder = request["tokenizer"]
        self._tokenizer: Tokenizer | None = load_tokenizer(Path(folder)) if folder else None
        self._names: list[str] = request["source"]
        self._source = resolve(self._names)
        self.inspection = Inspection(
            self._source,
            tokenizer=self._tokenizer,
            max_length=self._max_length,
            train_on=self._train_on,
            mapping=request["mapping"],
        )
        self._mapping: dict[str, str] = request["mapping"]
        self._stopped = Event()
        self._abandoned = Event()
        self._searches: dict[tuple[str | None, str], tuple[list[int], int]] = {}
        indexed = all(file.kind == "jsonl" and file.is_plain for file in self._source.files)
        self._store: Store = LineIndex(self._source.files) if indexed else Spool()
        if self.inspection.index is not None:
            self._store = self.inspection.index

    def start(self) -> None:
        """Begin the pass and the index."""
        if isinstance(self._store, LineIndex):
            Thread(target=self._index, args=(self._store,), daemon=True).start()
            self._store.begun.wait(_PATIENCE_SECONDS)
        Thread(target=self._run, daemon=True).start()

    def _index(self, store: LineIndex) -> None:
        _stand_back()
        store.build(self._abandoned)

    def stop(self) -> None:
        """End the pass. The index goes on: rows stay readable."""
        self._stopped.set()

    def abandon(self) -> None:
        self._stopped.set()
        self._abandoned.set()

    def opened(self) -> Opened:
        recognition = self.inspection.recognition
        first = self.inspection.first[:_FIRST_ROWS]
        return Opened(
            source=printable(self._source.name, single_line=True),
            files=tuple(printable(str(file.path), single_line=True) for file in self._source.files),
            bytes=self._source.bytes,
            format=recognition.format,
            columns=recognition.columns,
            mapping=self._mapping or recognition.suggestion,
            rows=tuple(preview_of(self.inspection.judge.judge(record)) for record in first),
        )

    def _run(self) -> None:
        """The pass. An unusable source can still show here: then the report says so."""
        _stand_back()
        told = reported = time.monotonic()
        try:
            for _ in self._pass():
                now = time.monotonic()
                if now - told > _PROGRESS_SECONDS:
                    told = now
                    self._tell_progress()
                if now - reported > _REPORT_SECONDS:
                    reported = now
                    self._tell_report()
                if self._stopped.is_set():
                    break
        except UserError as error:
            report = replace(self.inspection.report, error=str(error), complete=True)
            self._news(report=asdict(report))
            self._news(progress=asdict(replace(self.inspection.progress, stage="done")))
            return
        if isinstance(self._store, Spool):
            self._store.complete = True
        self._tell_report()
        self._tell_progress()

    def _pass(self) -> Iterator[None]:
        if self.inspection.is_large:
            for _ in self.inspection.scan(self._stopped, _scanners()):
                yield
            return
        for verdict, _ in self.inspection.steps():
            if isinstance(self._store, Spool):
                self._store.append(verdict.record)
            yield

    def _tell_progress(self) -> None:
        progress = replace(self.inspection.progress, known_rows=self._known())
        if self._stopped.is_set() and not progress.ended:
            progress = replace(progress, stage="cancelled")
        self._news(progress=asdict(progress))

    def _tell_report(self) -> None:
        self._news(report=asdict(self.inspection.report))

    def _news(self, **news: Any) -> None:
        self._tell({"generation": self._generation, **news})

    def _known(self) -> int:
        return max(len(self._store), self.inspection.tally.rows)

    def page(self, start: int, count: int, problem: str | None, search: str) -> Page:
        if problem is None and not search:
            end = min(start + count, len(self._store))
            positions = list(range(max(0, start), end))
            return self._page(start, len(self._store), positions, self._store.complete)
        found, complete = self._matching(problem, search)
        return self._page(start, len(found), found[max(0, start) : start + count], complete)

    def _page(self, start: int, total: int, positions: list[int], complete: bool) -> Page:
        rows = []
        for position in positions:
            row = preview_of(self._judged(position))
            rows.append(replace(row, problems=self._codes(position) or row.problems))
        return Page(start, total, tuple(rows), complete)

    def _matching(self, problem: str | None, search: str) -> tuple[list[int], bool]:
        """Positions of the rows that match. Searching goes on from where it stopped before."""
        ended = self.inspection.progress.ended or self._stopped.is_set()
        if problem is None:
            candidates = range(len(self._store))
        else:
            marked = self.inspection.tally.positions_with(problem)
            candidates = [at for at in marked if at < len(self._store)]  # type: ignore[assignment]
        if not search:
            return list(candidates), ended
        found, done = self._searches.get((problem, search), ([], 0))
        deadline = time.monotonic() + _SEARCH_SECONDS
        matches = searchable(search)
        while done < len(candidates) and time.monotonic() < deadline:
            first = candidates[done]
            rows = self._store.block(first) if problem is None else [self._store.raw(first)]
            if matches(b"\n".join(rows)):
                found += [first + at for at, row in enumerate(rows) if matches(row)]
            done += len(rows)
        self._searches[problem, search] = (found, done)
        return found, done >= len(candidates) and self._store.complete

    def _judged(self, position: int) -> Verdict:
        return self.inspection.judge.judge(self._store.get(position))

    def _codes(self, position: int) -> tuple[str, ...]:
        masks = self.inspection.tally.masks
        return codes_of(masks[position]) if position < len(masks) else ()

    def _position(self, number: int) -> int:
        position = self._store.position(number)
        if position is None:
            raise UserError(f"There is no row {number} (yet).")
        return position

    def row(self, number: int) -> RowDetail:
        position = self._position(number)
        place = printable(self._store.place(position), single_line=True)
        raw = self._store.raw(position)
        return detail_of(self._judged(position), place, raw, self._codes(position))

    def where(self, number: int) -> dict[str, int]:
        """The position of a row, or of the first one after it."""
        position = self._store.at_or_after(number)
        if position >= len(self._store):
            raise UserError(f"There is no row {number:,} (yet).")
        return {"position": position}

    def write_clean(self, file: str) -> CleanCopy:
        """Write a cleaned copy of the source; it is read once more for that (twice where the pass
        was given up)."""
        if self.inspection.progress.stage == "done":
            done = save_clean(self.inspection, Path(file))
        else:
            done = write_clean(self._names, Path(file), mapping=self._mapping)
        kept = printable(str(done.file), single_line=True)
        left_out = printable(str(done.list), single_line=True)
        return CleanCopy(kept, left_out, done.kept, done.removed)

    def compare(self, held_out: list[str]) -> Leakage:
        """Look for rows that are also held out; the report says so from then on."""
        if self.inspection.progress.stage != "done":
            raise UserError("The pass has not come to its end.", "r reads the source anew.")
        found = self.inspection.look_for(held_out)
        self._tell_report()
        return found

    def tokens(self, number: int) -> RowTokens:
        verdict = self._judged(self._position(number))
        if self._tokenizer is None:
            raise UserError("There is no tokenizer to count with.", "Choose a model first.")
        return tokens_of(verdict, self._tokenizer, self._max_length, self._train_on)


class Service:
    """Reads requests until stdin ends. Nothing but replies and news goes to stdout."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
        os.dup2(2, 1)  # what a library prints must not get between the messages
        self._in = os.fdopen(os.dup(0), encoding="utf-8", errors="replace")
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # requests are no rows to be read
        self._lock = Lock()
        self._session: Session | None = None

    def run(self) -> None:
        for line in self._in:
            request = json.loads(line)
            if request["ask"] == "cancel":
                if self._session is not None:
                    self._session.stop()
                continue
            if request["ask"] in ("clean", "compare"):  # they read whole files: nobody waits
                Thread(target=self._reply_to, args=(request,), daemon=True).start()
            else:
                self._reply_to(request)

    def _reply_to(self, request: dict[str, Any]) -> None:
        self._tell({"id": request["id"], **self._answer(request)})

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            reply = self._reply(request)
            return {"reply": reply if isinstance(reply, dict) else asdict(reply)}
        except UserError as error:
            return {"error": [error.message, error.remedy]}
        except OSError as error:  # the file is gone, say: what is known of it stays readable
            said = describe_os_error(error, "read")
            return {"error": [said.message, said.remedy]}

    def _reply(self, request: dict[str, Any]) -> Any:
        if request["ask"] == "open":
            return self._open(request)
        if self._session is None:
            raise UserError("No data is open.", "Open a file first.")
        match request["ask"]:
            case "rows":
                return self._session.page(
                    request["start"], request["count"], request["problem"], request["search"]
                )
            case "row":
                return self._session.row(request["number"])
            case "tokens":
                return self._session.tokens(request["number"])
            case "position":
                return self._session.where(request["number"])
            case "try":
                return try_mapping(self._session.inspection, request["mapping"])
            case "clean":
                return self._session.write_clean(request["file"])
            case "compare":
                return self._session.compare(request["source"])
        raise UserError(f"The data helper cannot {request['ask']}.")

    def _open(self, request: dict[str, Any]) -> Opened:
        if self._session is not None:
            self._session.abandon()
            self._session = None
        self._session = Session(request, self._tell)
        self._session.start()
        return self._session.opened()

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock, suppress(BrokenPipeError):
            self._out.write(json.dumps(message) + "\n")
            self._out.flush()


def _end(failure: threading.ExceptHookArgs) -> None:
    """A thread failed: end as if the main thread had, for somebody waits for what it would say."""
    traceback.print_exception(failure.exc_value)
    os._exit(1)


def main() -> None:
    threading.excepthook = _end
    Service().run()
    os._exit(0)  # the pass may still run, in a thread that nothing waits for


if __name__ == "__main__":
    main()
