"""The app's side of the data service: a child process that reads files and counts tokens.

Parsing, tokenizers and pyarrow never enter the app's process. How a screen uses it::

    client = DataClient(on_progress=..., on_report=...)      # no process yet
    opened = client.open(["train.jsonl"], tokenizer=folder)  # within 1 s for a file of any size
    page = client.rows(0, 50)          # while the pass is running, and after it
    detail = client.row(17)            # by row *number*
    tokens = client.tokens(17)         # loads the tokenizer on first use
    client.cancel()                    # ends the pass; what is known stays readable
    client.close()                     # ends the child

Threads. `open`, `rows`, `row` and `tokens` block until the child answers (`rows` and `row`
within some tens of milliseconds, also while the pass runs), so call them from Textual *thread
workers* (`@work(thread=True)`), never on the event loop. Any number of threads may call them at
once. `progress`, `report` and `cancel` return at once and may be used anywhere; so may `close`,
but it waits up to a second for the child to end. The two callbacks run on the client's own
reader thread: use `app.call_from_thread` or `post_message` in them, and nothing slow.

Every call but `close`, `cancel`, `progress` and `report` may raise `UserError`: for what is
wrong with the source, or when the child has ended. A call that another thread's `close` or
`open` overtakes raises it too; an exclusive worker that was cancelled can ignore that.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from core.children import Child, Message
from core.data.report import Leakage, Report, leakage_from_wire, report_from_wire
from core.data.rows import (
    CleanCopy,
    MappingTrial,
    Opened,
    Page,
    Progress,
    RowDetail,
    RowTokens,
    detail_from_wire,
    opened_from_wire,
    page_from_wire,
    tokens_from_wire,
    trial_from_wire,
)
from core.errors import UserError

if TYPE_CHECKING:
    from core.data.encoding import TrainOn

SERVICE = "core.data.service"
_Waiting = tuple[Child, queue.SimpleQueue[Message]]


class DataClient:
    """One open source. `open` may be called again, for another source or other settings.

    `on_progress(progress)` is called a few times a second while the pass runs and once when it
    has ended; `on_report(report)` with `complete=False` about once a second while it runs (the
    ledger and the problems so far), and once with the final report.
    """

    def __init__(
        self,
        on_progress: Callable[[Progress], None] | None = None,
        on_report: Callable[[Report], None] | None = None,
    ) -> None:
        self._on_progress = on_progress
        self._on_report = on_report
        self._lock = Lock()
        self._child: Child | None = None
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Waiting] = {}
        self._generation = 0
        self._progress = Progress()
        self._report: Report | None = None

    @property
    def progress(self) -> Progress:
        """How far the pass is (the latest known)."""
        return self._progress

    @property
    def report(self) -> Report | None:
        """The latest report; `complete` says whether the pass has ended. None before the first."""
        return self._report

    def open(
        self,
        source: Sequence[str],
        *,
        tokenizer: Path | None = None,
        max_length: int = 1024,
        train_on: TrainOn = "assistant",
        mapping: Mapping[str, str] | None = None,
    ) -> Opened:
        """Open files, folders, globs or hub ids; answer with the first rows and start the pass.

        `tokenizer` is a folder with a tokenizer (`core.models.locate.locate_tokenizer`); without
        one there are no token statistics and `tokens` raises. A pass that is running is given up.
        """
        with self._lock:
            self._generation += 1
            self._progress, self._report = Progress(), None
        request = {
            "ask": "open",
            "source": list(source),
            "tokenizer": str(tokenizer) if tokenizer else None,
            "max_length": max_length,
            "train_on": train_on,
            "mapping": dict(mapping or {}),
            "generation": self._generation,
        }
        return opened_from_wire(self._ask(request))

    def rows(self, start: int, count: int, *, problem: str | None = None, search: str = "") -> Page:
        """`count` rows from position `start` (0-based) of the table, or of what is left of it
        with only the rows that have this problem code and hold this text (any case)."""
        return page_from_wire(
            self._ask(
                {
                    "ask": "rows",
                    "start": start,
                    "count": count,
                    "problem": problem,
                    "search": search,
                }
            )
        )

    def row(self, number: int) -> RowDetail:
        """One row in full, by its number."""
        return detail_from_wire(self._ask({"ask": "row", "number": number}))

    def tokens(self, number: int) -> RowTokens:
        """One row as the model sees it. UserError without a tokenizer, and for an unusable row."""
        return tokens_from_wire(self._ask({"ask": "tokens", "number": number}))

    def position(self, number: int) -> int:
        """Where in the unfiltered table the row with this number stands, or the next one there
        is (blank lines have no row). UserError beyond the last row that is known."""
        return int(self._ask({"ask": "position", "number": number})["position"])

    def try_mapping(self, mapping: Mapping[str, str]) -> MappingTrial:
        """What the first rows would be with this mapping; nothing is changed by asking."""
        return trial_from_wire(self._ask({"ask": "try", "mapping": dict(mapping)}))

    def write_clean(self, file: Path) -> CleanCopy:
        """Write a cleaned copy of the open source (`core.data.cleaning`). It may take minutes;
        other calls are answered meanwhile. UserError when the file is there already."""
        return CleanCopy(**self._ask({"ask": "clean", "file": str(file)}))

    def compare(self, held_out: Sequence[str]) -> Leakage:
        """Which rows are also in the data held out for evaluation; once the pass has ended. The
        report that follows says so too. Other calls are answered meanwhile."""
        return leakage_from_wire(self._ask({"ask": "compare", "source": list(held_out)}))

    def cancel(self) -> None:
        """Give up the pass that is running; rows that are known stay readable."""
        with self._lock, suppress(UserError):
            if self._child is not None:
                self._child.send({"ask": "cancel"})

    def close(self) -> None:
        """End the child process. Safe to call twice; calls that are waiting raise UserError."""
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.close()

    def _ask(self, request: Message) -> Message:
        number = next(self._numbers)
        answer: queue.SimpleQueue[Message] = queue.SimpleQueue()
        with self._lock:
            if self._child is None:
                if request["ask"] != "open":
                    raise UserError("No data is open.", "Open a file first.")
                self._child = self._start()
            self._waiting[number] = (self._child, answer)
            try:
                self._child.send({**request, "id": number})
            except UserError:
                self._waiting.pop(number, None)
                self._child = None
                raise
        reply = answer.get()
        if "error" in reply:
            raise UserError(*reply["error"])
        result: Message = reply["reply"]
        return result

    def _start(self) -> Child:
        child = Child(SERVICE)
        Thread(target=self._listen, args=(child,), daemon=True).start()
        return child

    def _listen(self, child: Child) -> None:
        """The reader thread: hand replies to those who wait, and news to the callbacks."""
        for message in child:
            if "id" in message:
                waiting = self._waiting.pop(message["id"], None)
                if waiting is not None:
                    waiting[1].put(message)
            elif message.get("generation") == self._generation:
                self._receive_news(message)
        with self._lock:
            died = self._child is child
            if died:
                self._child = None
            overtaken = [n for n, (owner, _) in self._waiting.items() if owner is child]
            answers = [self._waiting.pop(number)[1] for number in overtaken]
        reason = child.last_errors.strip().rpartition("\n")[2]
        sentence = f"The data helper has ended ({reason})." if reason else "No data is open."
        for answer in answers:
            answer.put({"error": [sentence, "Open the file again."]})
        if died and not self._progress.ended:
            known = self._report or Report("", "unknown", 0, 0)
            ended = replace(self._progress, stage="cancelled")
            self._receive_news({"progress": asdict(ended)})
            self._receive_news({"report": asdict(replace(known, error=sentence, complete=False))})

    def _receive_news(self, message: dict[str, Any]) -> None:
        if "progress" in message:
            self._progress = Progress(**message["progress"])
            if self._on_progress is not None:
                self._on_progress(self._progress)
        elif "report" in message:
            self._report = report_from_wire(message["report"])
            if self._on_report is not None:
                self._on_report(self._report)
