"""A pass over a source: every row judged, counted and, with a tokenizer, encoded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from shlex import quote
from threading import Event

from core.data.advice import advise
from core.data.array_index import ArrayIndex
from core.data.encoding import Encoded, TrainOn, encode
from core.data.examples import Record
from core.data.files import Lists, Meter
from core.data.formats import RECOGNITION_ROWS, Recognition, check_mapping, recognise
from core.data.json_values import is_list
from core.data.language import language_of
from core.data.near import signature, text_of
from core.data.parallel import scan
from core.data.problems import KINDS
from core.data.report import Leakage, Report
from core.data.rows import Progress
from core.data.scanner import Orders, is_sampled
from core.data.sources import Source, resolve
from core.data.summary import (
    agree,
    estimate_of,
    held_out_lists,
    leakage_of,
    ordered,
    problems,
    sample_of,
    statistics,
    token_statistics,
)
from core.data.tally import Tally
from core.data.tokenizer import Tokenizer
from core.data.verdict import Judge, Verdict

LARGE_BYTES = 32 << 20
SAMPLED_ROWS = 20_000
LANGUAGE_ROWS = 5_000
_ALL_ROWS = 50_000
_HEAD_BYTES = 1 << 20
_INTERVAL = 0.25
_RECOGNITION_BYTES = 16 << 20


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
        compares: bool = True,
    ) -> None:
        self.source = source
        self.tally = Tally()
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._train_on: TrainOn = train_on
        self._compares = compares
        self._meter = Meter()
        self._scanned = 0
        self._started = time.monotonic()
        self._ended = False
        self.leakage: Leakage | None = None
        mapping = check_mapping(mapping or {})
        records = source.records(self._meter)
        first = self.first = self._first(records)
        self.recognition: Recognition = recognise(first, mapping)
        self.judge = Judge(self.recognition.format, mapping, train_on)
        self._mapping = mapping
        self._records = chain(first, records)
        self.is_large = self._is_large()
        array = self.is_large and self.source.files[0].kind == "json"
        self.index = ArrayIndex() if array else None
        rows = self._estimated_rows(len(first))
        self._rate = 1.0 if exact or rows <= _ALL_ROWS else SAMPLED_ROWS / rows
        self._language_rate = LANGUAGE_ROWS / max(rows, LANGUAGE_ROWS)

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
        if self.is_large and self.index is None:
            with self.source.files[0].path.open("rb") as file:
                head = file.read(_HEAD_BYTES)
            return self.source.bytes / len(head) * max(1, head.count(b"\n"))
        kinds = {(file.kind, file.packing) for file in self.source.files}
        if kinds == {("json", "")}:  # it is read in big chunks, whatever a row takes
            read = sum(map(_size_of, self.first))
            return self.source.bytes / max(1, read) * first
        return self.source.bytes / max(1, self._meter.position) * first

    def _is_large(self) -> bool:
        """Whether it is read by several processes: lines of JSON or arrays, as they lie on disk."""
        files = self.source.files
        if self.source.bytes < LARGE_BYTES or not all(file.is_plain for file in files):
            return False
        kinds = {file.kind for file in files}
        return kinds == {"jsonl"} or (
            kinds == {"json"} and all(is_list(file, self._meter) for file in files)
        )

    def scan(
        self, stopped: Event | None = None, processes: int | None = None
    ) -> Iterator[Progress]:
        """The pass over large files, with the help of other processes: a step a part."""
        tokenizer = None if self._tokenizer is None else self._tokenizer.where
        orders = Orders(
            self.recognition.format, self._mapping, tokenizer, self._max_length, self._train_on,
            self._rate, self._language_rate,
        )  # fmt: skip
        after = lines = 0
        parts = scan(self.source.files, orders, stopped or Event(), self._meter, processes)
        for part, found in parts:
            if part.begins:  # of a file: its numbers begin after the last row before it
                after, lines = (self.tally.numbers[-1] if self.tally.rows else 0), 0
            known = self.tally.rows
            self.tally.append_part(found, after + lines)
            lines += found["lines"]
            self._scanned += part.end - part.start
            if self.index is not None:
                self.index.extend(part, self.tally.numbers[known:], lost=bool(found["lost"]))
            yield self.progress
        if self.index is not None:
            self.index.complete = True
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
        sketch, language = None, ""
        if verdict.example is not None and is_sampled(record.number, self._rate):
            if self._tokenizer is not None:
                encoded = encode(verdict.example, self._tokenizer, self._max_length, self._train_on)
            if self._compares:
                sketch = signature(verdict.example)
                if is_sampled(record.number, self._language_rate):
                    language = language_of(text_of(verdict.example))
        self.tally.add(verdict, encoded, whole=self._rate >= 1, signature=sketch, language=language)
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

    def look_for(self, held_out: Sequence[str], *, exact: bool = False) -> Leakage:
        """After the pass: which rows are also in the data that are held out for evaluation."""
        other = Inspection(resolve(held_out, to_evaluate=True), mapping=self._mapping, exact=exact)
        other.run()
        self.tally.mark_leaks(*self.tally.shared_with(other.tally))
        self.leakage = found = leakage_of(other.source.name, other.tally, self.tally)
        return found

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
        tally, ended = self.tally, self._ended
        counted = None
        if self._tokenizer is not None:
            counted = token_statistics(tally, self._max_length, complete=ended)
        report = Report(
            source=self.source.name,
            format=self.recognition.format,
            rows=tally.rows,
            usable=tally.usable_rows,
            ledger=ordered(tally.ledger),
            tokens=counted,
            problems=problems(tally, self.source, self._unchosen_lists(), complete=ended),
            error=self._error() if ended else None,
            complete=ended,
            sample=sample_of(tally),
            estimate=estimate_of(tally) if self._rate < 1 else None,
            statistics=statistics(tally) if ended else None,
            leakage=self.leakage,
            held_out=self.held_out,
        )
        return replace(report, advice=advise(report)) if ended else report

    @property
    def held_out(self) -> tuple[str, ...]:
        """What the source sets apart for evaluation, as sources of their own; lists in files when
        the pass has ended."""
        lists = held_out_lists(self._unchosen_lists()) if self._ended else {}
        named = (f"{path}/{name}" for path, name in lists.items())
        return (*self.source.held_out, *named)

    def _unchosen_lists(self) -> dict[Path, Lists]:
        """The lists in files of which the user has not said which one is meant."""
        chosen = {file.path for file in self.source.files if file.part}
        return {path: lists for path, lists in self._meter.lists.items() if path not in chosen}

    def _error(self) -> str | None:
        if self.tally.usable_rows:
            return None
        if self.recognition.format == "unknown" and self.recognition.columns:
            columns = ", ".join(self.recognition.columns[:12])
            mapping = self.recognition.suggestion or {"prompt": "FIELD", "completion": "FIELD"}
            said = " ".join(f"--map {quote(f'{role}={name}')}" for role, name in mapping.items())
            return (
                f"No format is recognised in {self.source.name} (its fields: {columns})."
                f" Say what they are, for example with {said}."
            )
        worst = max(self.tally.fatal, key=lambda code: self.tally.fatal[code], default=None)
        if worst is None:
            return f"{self.source.name} holds no rows."
        rows, what = self.tally.rows, agree(KINDS[worst].what, self.tally.rows)
        none = f"None of the {rows} rows in {self.source.name} can be trained on: they {what}"
        if rows == 1:
            none = f"The only row in {self.source.name} cannot be trained on: it {what}"
        return f"{none} {KINDS[worst].remedy}"


def _size_of(record: Record) -> int:
    """About the bytes that a row takes in a file."""
    text = json.dumps(record.value, ensure_ascii=False, default=str)
    return len(text.encode("utf-8", "replace"))


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

    Of more than 50,000 rows a sample of about 20,000 is encoded and compared for
    near-duplicates, unless `exact`.
    """
    inspection = Inspection(
        resolve(sources),
        tokenizer=tokenizer,
        max_length=max_length,
        train_on=train_on,
        mapping=mapping,
        exact=exact,
    )
    inspection.run(on_progress)
    if held_out:
        inspection.look_for(held_out, exact=exact)
    return inspection.report
