"""The encoded splits of a run, in its data/ folder: what is trained on, resumed on, evaluated on.

================== ===============================================================================
train.jsonl        {"number", "input_ids", "labels"}: a training sequence a line
eval.jsonl         the same for the held-out rows
heldout.jsonl      {"number", "messages", "tools", "reference"}: held-out prompts and their answer
ledger.json        the inspector's ledger of the training source, and how the rows were split
================== ===============================================================================

ledger.json is written last: where it is, the rest is complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.data.encoding import Encoded
from core.data.examples import Conversation, Example, Judged, Message, Preference
from core.data.identity import fingerprints
from core.data.inspection import Inspection
from core.data.rows import Progress
from core.data.sources import resolve
from core.data.split import split
from core.data.tokenizer import Tokenizer
from core.errors import UserError, describe_os_error
from core.recipe import DataSection, Recipe

TRAIN, EVAL, HELD_OUT, LEDGER = "train.jsonl", "eval.jsonl", "heldout.jsonl", "ledger.json"


@dataclass(frozen=True, slots=True)
class TokenRow:
    """One encoded sequence, with the number of the row that it comes from."""

    number: int
    input_ids: list[int]
    labels: list[int]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A held-out prompt and the answer that the data has for it."""

    number: int
    messages: tuple[Message, ...]
    reference: str
    tools: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every row of the training source once (`rows` is the sum over `reasons`), and where the
    usable ones went: to training, held out, or beyond `max_rows`."""

    format: str
    rows: int
    reasons: dict[str, int]
    train_rows: int
    eval_rows: int
    left_out: int
    train_tokens: int
    trained_tokens: int
    longest: int
    eval_ledger: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """What lies in a run's data folder."""

    train: list[TokenRow]
    eval: list[TokenRow]
    held_out: list[HeldOut]
    ledger: Ledger


@dataclass(slots=True)
class _Rows:
    """The usable rows of a source, encoded."""

    numbers: list[int] = field(default_factory=list)
    encoded: list[list[Encoded]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    format: str = "unknown"
    total: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def chosen(self, positions: Sequence[int]) -> Iterator[tuple[int, Encoded]]:
        for position in positions:
            for one in self.encoded[position]:
                if one.trained:
                    yield self.numbers[position], one


def prepare(
    recipe: Recipe,
    tokenizer: Tokenizer,
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
) -> Prepared:
    """Encode the recipe's data and write it to `folder`. UserError when nothing can be trained."""
    data = recipe.data
    rows = _read(data.train, data, tokenizer, on_progress)
    if data.eval:
        held = _read(data.eval, data, tokenizer, on_progress)
        train_at, eval_at = list(range(len(rows))), list(range(len(held)))
    else:
        held = rows
        train_at, eval_at = split(_groups(rows), data.eval_fraction, recipe.training.seed)
    kept = train_at[: data.max_rows]
    prepared = Prepared(
        train=[TokenRow(number, e.input_ids, e.labels) for number, e in rows.chosen(kept)],
        eval=[TokenRow(number, e.input_ids, e.labels) for number, e in held.chosen(eval_at)],
        held_out=list(_held_out(held, eval_at)),
        ledger=_ledger(rows, held, kept, len(train_at) - len(kept), eval_at),
    )
    if not prepared.train:
        raise UserError("No row is left to train on.", "Look at the data with `tunedeck inspect`.")
    _write(prepared, folder)
    return prepared


def load_prepared(folder: Path) -> Prepared:
    """Read back what `prepare` wrote. UserError when it is not there or not complete."""
    try:
        ledger = Ledger(**json.loads((folder / LEDGER).read_text(encoding="utf-8")))
        held_out = [
            HeldOut(row["number"], tuple(row["messages"]), row["reference"], tuple(row["tools"]))
            for row in _lines(folder / HELD_OUT)
        ]
        return Prepared(
            train=[TokenRow(**row) for row in _lines(folder / TRAIN)],
            eval=[TokenRow(**row) for row in _lines(folder / EVAL)],
            held_out=held_out,
            ledger=ledger,
        )
    except OSError as error:
        raise describe_os_error(error, "read the run's data") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"The encoded data in {folder} is damaged.", "Delete that folder and start a new run."
        ) from error


def is_prepared(folder: Path) -> bool:
    return (folder / LEDGER).is_file()


def _read(
    source: Sequence[str],
    data: DataSection,
    tokenizer: Tokenizer,
    on_progress: Callable[[Progress], None] | None,
) -> _Rows:
    inspection = Inspection(
        resolve(source),
        tokenizer=tokenizer,
        max_length=data.max_length,
        train_on=data.train_on,
        mapping=data.mapping,
        exact=True,
        compares=False,
    )
    rows = _Rows()
    for count, (verdict, encoded) in enumerate(inspection.steps()):
        if on_progress is not None and count % 500 == 0:
            on_progress(inspection.progress)
        if verdict.example is not None and encoded is not None and any(e.trained for e in encoded):
            rows.numbers.append(verdict.record.number)
            rows.encoded.append(_for_training(verdict.example, encoded))
            rows.examples.append(verdict.example)
            row, prompt = fingerprints(verdict.example)
            rows.hashes.append(row)
            rows.prompts.append(prompt or row)
    report = inspection.report
    rows.reasons, rows.total, rows.format = report.ledger, report.rows, report.format
    if report.error:
        raise UserError(report.error)
    return rows


def _groups(rows: _Rows) -> list[int]:
    """What must not be on both sides: rows that ask the same, else (where most rows do, as in
    data with one fixed prompt) rows that are the same."""
    return rows.prompts if len(set(rows.prompts)) * 2 > len(rows) else rows.hashes


def _for_training(example: Example, encoded: list[Encoded]) -> list[Encoded]:
    """Supervised training learns the better answers: not those rejected or found undesirable."""
    if isinstance(example, Preference):
        return encoded[:1]
    return [] if isinstance(example, Judged) and not example.label else encoded


def _held_out(rows: _Rows, positions: Sequence[int]) -> Iterator[HeldOut]:
    """Rows that can be asked: those with a text as their last answer."""
    for position in positions:
        example = rows.examples[position]
        if isinstance(example, Conversation):
            messages, tools = example.messages, example.tools
        elif isinstance(example, Preference):
            messages, tools = (*example.prompt, *example.chosen), ()
        elif isinstance(example, Judged) and example.label:
            messages, tools = (*example.prompt, *example.completion), ()
        else:
            continue
        last = max(at for at, message in enumerate(messages) if message["role"] == "assistant")
        reference = str(messages[last]["content"])
        if last and reference.strip():
            yield HeldOut(rows.numbers[position], messages[:last], reference, tools)


def _ledger(
    rows: _Rows, held: _Rows, train: Sequence[int], left_out: int, eval_: Sequence[int]
) -> Ledger:
    encoded = [one for _, one in rows.chosen(train)]
    return Ledger(
        format=rows.format,
        rows=rows.total,
        reasons=rows.reasons,
        train_rows=len(train),
        eval_rows=len(eval_),
        left_out=left_out,
        train_tokens=sum(len(one.input_ids) for one in encoded),
        trained_tokens=sum(one.trained for one in encoded),
        longest=max((len(one.input_ids) for one in encoded), default=0),
        eval_ledger={} if held is rows else held.reasons,
    )


def _write(prepared: Prepared, folder: Path) -> None:
    from dataclasses import asdict

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LEDGER).unlink(missing_ok=True)
        for name, rows in ((TRAIN, prepared.train), (EVAL, prepared.eval)):
            _write_lines(folder / name, map(asdict, rows))
        _write_lines(folder / HELD_OUT, map(asdict, prepared.held_out))
        temporary = folder / f".{LEDGER}.tmp"
        temporary.write_text(json.dumps(asdict(prepared.ledger), indent=1), encoding="utf-8")
        temporary.replace(folder / LEDGER)
    except OSError as error:
        raise describe_os_error(error, "write the encoded data to") from error


def _write_lines(path: Path, rows: Iterator[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
