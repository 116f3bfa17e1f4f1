"""The encoded splits of a run, in its data/ folder: what is trained on, resumed on, evaluated on.

================== ===============================================================================
train.jsonl        a training row a line: {"number", "input_ids", "labels", …}, see `TokenRow`
eval.jsonl         the same for the held-out rows
heldout.jsonl      {"number", "messages", "tools", "reference"}: held-out prompts and their answer
ledger.json        the inspector's ledger of the training source, and how the rows were split
================== ===============================================================================

ledger.json is written last: where it is, the rest is complete.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from core.data.encoding import Encoded
from core.data.examples import Conversation, Example, FormatName, Judged, Message, Preference
from core.data.identity import fingerprints
from core.data.inspection import Inspection
from core.data.rows import Progress
from core.data.sources import Source, resolve
from core.data.split import split
from core.data.tokenizer import Tokenizer
from core.data.training_rows import (
    TokenRow,
    as_tree,
    in_need,
    row_of,
    training_rows,
    with_partners,
)
from core.data.verdict import Verdict
from core.errors import UserError, describe_os_error
from core.objectives import refusal, suggestion
from core.recipe import Recipe

FEW_ROWS, FIXED_SHARE = 10, 0.05  # rows of one prompt from which on it is a fixed one
ABOUT_NAMES = ("unread-lists", "set-apart", "named-for-evaluation")
TRAIN, EVAL, HELD_OUT, LEDGER = "train.jsonl", "eval.jsonl", "heldout.jsonl", "ledger.json"


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
    usable ones went: to training, held out, beyond `max_rows`, or left out because they hold
    nothing to learn for this objective (`not_learned`: bad answers, in supervised training)."""

    format: str
    rows: int
    reasons: dict[str, int]
    train_rows: int
    eval_rows: int
    left_out: int
    train_tokens: int
    trained_tokens: int
    longest: int
    not_learned: int = 0
    eval_ledger: dict[str, int] = field(default_factory=dict)
    eval_source: tuple[str, ...] = ()
    """What the held-out rows are from; empty where they are a part of the training source."""
    unread: dict[str, str] = field(default_factory=dict)
    """What of the source is not read, or is read against its name: messages by their code."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What lies in a run's data folder."""

    train: list[TokenRow]
    eval: list[TokenRow]
    held_out: list[HeldOut]
    ledger: Ledger

    @property
    def good_eval(self) -> list[TokenRow]:
        """The held-out rows whose answer is one to learn: what a model's loss is measured on."""
        return [row for row in self.eval if row.desirable is not False]


@dataclass(slots=True)
class _Rows:
    """The usable rows of a source as they are trained on; some give several."""

    numbers: list[int] = field(default_factory=list)
    encoded: list[list[TokenRow]] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    format: FormatName = "unknown"
    total: int = 0
    not_learned: int = 0
    held_out: tuple[str, ...] = ()
    unread: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    def chosen(self, positions: Sequence[int]) -> list[TokenRow]:
        return [row for position in positions for row in self.encoded[position]]


def prepare(
    recipe: Recipe,
    tokenizer: Tokenizer,
    folder: Path,
    on_progress: Callable[[Progress], None] | None = None,
) -> Prepared:
    """Encode the recipe's data and write it to `folder`. UserError when nothing can be trained."""
    data = recipe.data
    rows = _read(resolve(data.train), recipe, tokenizer, on_progress)
    if eval_source := tuple(data.eval or (rows.held_out if data.eval_by_name else ())):
        held = _read(resolve(eval_source, to_evaluate=True), recipe, tokenizer, on_progress)
        train_at, eval_at = list(range(len(rows))), list(range(len(held)))
    else:
        held = rows
        train_at, eval_at = split(_groups(rows), data.eval_fraction, recipe.training.seed)
    kept = train_at[: data.max_rows]
    train, held_out = rows.chosen(kept), held.chosen(eval_at)
    if recipe.objective.name == "kto":
        train = with_partners(train, data.max_length)
        held_out = with_partners(held_out, data.max_length)
    prepared = Prepared(
        train=train,
        eval=held_out,
        held_out=list(_held_out(held, eval_at)),
        ledger=replace(
            _ledger(rows, train, len(kept), len(train_at) - len(kept), len(eval_at)),
            eval_ledger={} if held is rows else held.reasons,
            eval_source=eval_source,
        ),
    )
    if not prepared.train:
        raise UserError("No row is left to train on.", "Look at the data with `tunedeck inspect`.")
    if lack := in_need(recipe.objective.name, prepared.train):
        raise UserError(lack, suggestion(rows.format))
    _write(prepared, folder)
    return prepared


def load_prepared(folder: Path) -> Prepared:
    """Read back what `prepare` wrote. UserError when it is not there or not complete."""
    try:
        ledger = _ledger_from(json.loads((folder / LEDGER).read_text(encoding="utf-8")))
        held_out = [
            HeldOut(row["number"], tuple(row["messages"]), row["reference"], tuple(row["tools"]))
            for row in _lines(folder / HELD_OUT)
        ]
        return Prepared(
            train=[row_of(tree) for tree in _lines(folder / TRAIN)],
            eval=[row_of(tree) for tree in _lines(folder / EVAL)],
            held_out=held_out,
            ledger=ledger,
        )
    except OSError as error:
        raise describe_os_error(error, "read the run's data") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"The encoded data in {folder} is damaged.", "Delete that folder and start a new run."
        ) from error


def _ledger_from(tree: dict[str, Any]) -> Ledger:
    """As it was written, also by an earlier version, which told of nothing but lists."""
    unread = tree.get("unread") or {}
    told = {"unread-lists": unread} if isinstance(unread, str) else unread
    return Ledger(**{**tree, "unread": told, "eval_source": tuple(tree.get("eval_source", ()))})


def is_prepared(folder: Path) -> bool:
    return (folder / LEDGER).is_file()


def _read(
    source: Source,
    recipe: Recipe,
    tokenizer: Tokenizer,
    on_progress: Callable[[Progress], None] | None,
) -> _Rows:
    inspection = Inspection(
        source,
        tokenizer=tokenizer,
        max_length=recipe.data.max_length,
        train_on=recipe.encodes,
        mapping=recipe.data.mapping,
        exact=True,
        compares=False,
    )
    _check_kind(recipe, inspection)
    rows = _Rows()
    for count, (verdict, encoded) in enumerate(inspection.steps()):
        if on_progress is not None and count % 500 == 0:
            on_progress(inspection.progress)
        if verdict.example is not None and encoded is not None:
            _take(rows, verdict, encoded, recipe)
    report = inspection.report
    rows.reasons, rows.total, rows.format = report.ledger, report.rows, report.format
    if report.error:
        raise UserError(report.error)
    rows.not_learned = report.usable - len(rows)
    rows.held_out = report.held_out
    rows.unread = {
        one.code: one.message
        for one in report.problems
        if one.code in ABOUT_NAMES and one.severity == "warning"
    }
    return rows


def _check_kind(recipe: Recipe, inspection: Inspection) -> None:
    """UserError when the first rows show that the objective cannot learn from such data."""
    found = inspection.recognition.format
    if found != "unknown" and (why := refusal(recipe.objective.name, found)):
        raise UserError(f"{why}.", suggestion(found))


def _take(rows: _Rows, verdict: Verdict, encoded: list[Encoded], recipe: Recipe) -> None:
    """Keep a row, if there is something in it to learn."""
    assert verdict.example is not None
    number = verdict.record.number
    made = training_rows(number, verdict.example, encoded, recipe.objective.name)
    if not made:
        return
    rows.numbers.append(number)
    rows.encoded.append(made)
    rows.examples.append(verdict.example)
    row, prompt = fingerprints(verdict.example)
    rows.hashes.append(row)
    rows.prompts.append(prompt or row)


def _groups(rows: _Rows) -> list[int]:
    """What must not be on both sides: rows that ask the same. A prompt that a share of all rows
    has (a fixed instruction, say) keeps nothing apart; of those, rows that are the same."""
    counts = Counter(rows.prompts)
    most = max(FEW_ROWS, FIXED_SHARE * len(rows))
    return [
        prompt if counts[prompt] <= most else row
        for prompt, row in zip(rows.prompts, rows.hashes, strict=True)
    ]


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
    rows: _Rows, train: Sequence[TokenRow], kept: int, left_out: int, held_out: int
) -> Ledger:
    return Ledger(
        format=rows.format,
        rows=rows.total,
        reasons=rows.reasons,
        train_rows=kept,
        eval_rows=held_out,
        left_out=left_out,
        train_tokens=sum(row.tokens for row in train),
        trained_tokens=sum(row.trained for row in train),
        longest=max((row.longest for row in train), default=0),
        not_learned=rows.not_learned,
        unread=rows.unread,
    )


def _write(prepared: Prepared, folder: Path) -> None:
    from dataclasses import asdict

    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LEDGER).unlink(missing_ok=True)
        for name, rows in ((TRAIN, prepared.train), (EVAL, prepared.eval)):
            _write_lines(folder / name, map(as_tree, rows))
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
