"""A pass over a source: every row judged, counted and, with a tokenizer, encoded."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from threading import Event

import numpy as np

from core.data.encoding import Encoded, TrainOn, encode
from core.data.examples import Record
from core.data.files import Meter
from core.data.formats import RECOGNITION_ROWS, Recognition, check_mapping, recognise
from core.data.near import signature
from core.data.parallel import scan
from core.data.problems import CODES, KINDS
from core.data.report import Problem, Report, TokenStatistics
from core.data.rows import Progress
from core.data.scanner import Orders, is_sampled
from core.data.sources import Source, resolve
from core.data.tally import Tally
from core.data.tokenizer import Tokenizer
from core.data.verdict import Judge, Verdict

FEW = 500
VERY_FEW = 50
LARGE_BYTES = 32 << 20
SAMPLED_ROWS = 20_000
_ALL_ROWS = 50_000
_HEAD_BYTES = 1 << 20
_INTERVAL = 0.25
_BINS = 24
_USUAL_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_RECOGNITION_BYTES = 16 << 20
_OF_SAMPLE = ("too-long", "no-trained-tokens", "no-stop-token", "near-duplicate")
_SEVERITIES = ("error", "warning", "info")


class Inspection:
    """One pass. `step` through it, or `run` it; `report` says what is known at any time."""

    def __init__(
        self,
        source: Source,
        *,
        tokenizer: Tokenizer | None = None,
        max_length: int = 1024,
        train_on: TrainOn = "assistant",
        mapping: Mapping[str, str] | None = None,
        exact: bool = False,
        near: bool = True,
    ) -> None:
        self.source = source
        self.tally = Tally()
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._train_on: TrainOn = train_on
        self._near = near
        self._meter = Meter()
        self._scanned = 0
        self._started = time.monotonic()
        self._ended = False
        mapping = check_mapping(mapping or {})
        records = source.records(self._meter)
        first = self.first = self._first(records)
        self.recognition: Recognition = recognise(first, mapping)
        self.judge = Judge(self.recognition.format, mapping)
        self._mapping = mapping
        self._records = chain(first, records)
        rows = self._estimated_rows(len(first))
        self._rate = 1.0 if exact or rows <= _ALL_ROWS else SAMPLED_ROWS / rows

    def _first(self, records: Iterator[Record]) -> list[Record]:
        """The rows to recognise the format by: not so many that a person would wait."""
        first = []
        for record in records:
            first.append(record)
            if len(first) == RECOGNITION_ROWS or self._meter.position > _RECOGNITION_BYTES:
                break
        return first

    def _estimated_rows(self, first: int) -> float:
        """From the size of the first rows; always the same for a file."""
        if self.is_large:
            with self.source.files[0].path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
            return self.source.bytes / len(head) * max(1, head.count(b"\n"))
        return self.source.bytes / max(1, self._meter.position) * first

    @property
    def is_large(self) -> bool:
        """Whether it is read by several processes."""
        plain = all(file.kind == "jsonl" and file.is_plain for file in self.source.files)
        return plain and self.source.bytes >= LARGE_BYTES

    def scan(
        self, stopped: Event | None = None, processes: int | None = None
    ) -> Iterator[Progress]:
        """The pass over large files, with the help of other processes: a step a part."""
        tokenizer = None if self._tokenizer is None else self._tokenizer.where
        orders = Orders(
            self.recognition.format, self._mapping, tokenizer, self._max_length, self._train_on,
            self._rate,
        )  # fmt: skip
        after = lines = 0
        for part, found in scan(self.source.files, orders, stopped or Event(), processes):
            if part.begins:  # of a file: its numbers begin after the last row before it
                after, lines = (self.tally.numbers[-1] if self.tally.rows else 0), 0
            self.tally.append_part(found, after + lines)
            lines += found["lines"]
            self._scanned += part.end - part.start
            yield self.progress
        if stopped is None or not stopped.is_set():
            self._finish()

    def _finish(self) -> None:
        self.tally.compare()
        self._ended = True

    def steps(self) -> Iterator[tuple[Verdict, list[Encoded] | None]]:
        """Every row, judged and counted. Ends with the comparison of all rows."""
        for record in self._records:
            yield self._take(record)
        self._finish()

    def _take(self, record: Record) -> tuple[Verdict, list[Encoded] | None]:
        verdict = self.judge.judge(record)
        encoded = None
        sketch = None
        if verdict.example is not None and is_sampled(record.number, self._rate):
            if self._tokenizer is not None:
                encoded = encode(verdict.example, self._tokenizer, self._max_length, self._train_on)
            sketch = signature(verdict.example) if self._near else None
        self.tally.add(verdict, encoded, whole=self._rate >= 1, signature=sketch)
        return verdict, encoded

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> Report:
        told = self._started
        for _ in self.scan() if self.is_large else self.steps():
            if on_progress is not None and time.monotonic() - told > _INTERVAL:
                told = time.monotonic()
                on_progress(self.progress)
        if on_progress is not None:
            on_progress(self.progress)
        return self.report

    @property
    def progress(self) -> Progress:
        return Progress(
            stage="done" if self._ended else "checking",
            rows=self.tally.rows,
            known_rows=self.tally.rows,
            bytes=self.source.bytes if self._ended else max(self._scanned, self._meter.position),
            total_bytes=self.source.bytes,
            seconds=time.monotonic() - self._started,
            problems=dict(self.tally.counts),
        )

    @property
    def report(self) -> Report:
        tally = self.tally
        return Report(
            source=self.source.name,
            format=self.recognition.format,
            rows=tally.rows,
            usable=tally.usable_rows,
            ledger=_ordered(tally.ledger),
            tokens=None if self._tokenizer is None else token_statistics(tally),
            problems=problems(tally, complete=self._ended),
            error=self._error() if self._ended else None,
            complete=self._ended,
        )

    def _error(self) -> str | None:
        if self.tally.usable_rows:
            return None
        if self.recognition.format == "unknown" and self.recognition.columns:
            columns = ", ".join(self.recognition.columns[:12])
            return (
                f"No format is recognised in {self.source.name} (its fields: {columns})."
                " Say what they are with --map prompt=FIELD --map completion=FIELD."
            )
        worst = max(self.tally.fatal, key=lambda code: self.tally.fatal[code], default=None)
        if worst is None:
            return f"{self.source.name} holds no rows."
        return (
            f"None of the {self.tally.rows} rows in {self.source.name} can be trained on:"
            f" they {KINDS[worst].what} {KINDS[worst].remedy}"
        )


def inspect(
    sources: Sequence[str],
    *,
    tokenizer: Tokenizer | None = None,
    max_length: int = 1024,
    train_on: TrainOn = "assistant",
    mapping: Mapping[str, str] | None = None,
    held_out: Sequence[str] = (),
    exact: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Inspect everything that `sources` names. `held_out` is looked for in it (leakage).

    Of more than 50,000 rows a sample of about 20,000 is encoded, unless `exact`.
    """
    inspection = Inspection(
        resolve(sources),
        tokenizer=tokenizer,
        max_length=max_length,
        train_on=train_on,
        mapping=mapping,
        exact=exact,
    )
    report = inspection.run(on_progress)
    if held_out:
        other = Inspection(resolve(held_out), mapping=mapping)
        other.run()
        inspection.tally.mark_leaks(set(other.tally.hashes) - {0})
        report = inspection.report
    return report


def problems(tally: Tally, *, complete: bool) -> tuple[Problem, ...]:
    """All problems, the worst first."""
    found = [_problem(code, tally) for code in CODES if tally.counts[code]]
    usable = tally.usable_rows
    if complete and 0 < usable < FEW:
        kind = KINDS["few-examples"]
        severity = "warning" if usable < VERY_FEW else kind.severity
        rows = "1 usable row is" if usable == 1 else f"{usable} usable rows {kind.what[:3]}"
        message = f"{rows} few for fine-tuning."
        found.append(Problem("few-examples", severity, usable, (), message, kind.remedy))
    return tuple(sorted(found, key=lambda p: (_SEVERITIES.index(p.severity), -p.count, p.code)))


def _problem(code: str, tally: Tally) -> Problem:
    kind, count = KINDS[code], tally.counts[code]
    severity = kind.severity
    if tally.fatal[code]:
        severity = "error"
    elif code in ("encoding", "empty-response"):
        severity = "warning"
    message = f"{count} {'row' if count == 1 else 'rows'} {_agree(kind.what, count)}"
    sampled = len(tally.signed) if code == "near-duplicate" else len(tally.tokens)
    if code in _OF_SAMPLE and sampled < tally.usable_rows:
        message = f"In a sample of {sampled} rows: {message}"
    return Problem(code, severity, count, tuple(tally.listed[code]), message, kind.remedy)


_SINGULAR = {"are": "is", "have": "has", "lack": "lacks", "do": "does", "repeat": "repeats",
             "ask": "asks", "answer": "answers", "hold": "holds", "cannot": "cannot"}  # fmt: skip


def _agree(what: str, count: int) -> str:
    verb, rest = what.split(" ", 1)
    return f"{_SINGULAR.get(verb, verb)} {rest}" if count == 1 else what


def _ordered(ledger: Mapping[str, int]) -> dict[str, int]:
    order = ("usable", "truncated", *CODES)
    return {key: ledger[key] for key in order if ledger.get(key) or key == "usable"}


def token_statistics(tally: Tally) -> TokenStatistics | None:
    """Figures over the rows that were encoded; None when there are none."""
    if not tally.tokens:
        return None
    counts = np.sort(np.array(tally.tokens[:])).tolist()
    usable = tally.usable_rows + tally.fatal["no-trained-tokens"]
    scale = max(1.0, usable / len(counts))
    cut = [(length, len(counts) - bisect_right(counts, length)) for length in _USUAL_LENGTHS]
    few = [length for length, rows in cut if rows * 100 <= len(counts)]
    return TokenStatistics(
        total=round(sum(counts) * scale),
        trained=round(sum(tally.trained) * scale),
        p50=percentile(counts, 50),
        p95=percentile(counts, 95),
        p99=percentile(counts, 99),
        max=counts[-1],
        truncated_rows=round(tally.truncated * scale),
        histogram=histogram(counts),
        counted_rows=len(counts),
        margin=round(0.98 / len(counts) ** 0.5, 4) if scale > 1 else 0.0,
        cut_at=tuple((length, round(rows * scale)) for length, rows in cut),
        recommended_length=min(few, default=_USUAL_LENGTHS[-1]),
    )


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The smallest value that at least `percent` of the values do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def histogram(ordered: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(upper bound, rows) of equal bins from 0 to the largest value."""
    width = max(1, -(-ordered[-1] // _BINS))
    bins: dict[int, int] = {}
    for value in ordered:
        upper = max(1, -(-value // width)) * width
        bins[upper] = bins.get(upper, 0) + 1
    last = max(bins)
    return tuple((upper, bins.get(upper, 0)) for upper in range(width, last + 1, width))
