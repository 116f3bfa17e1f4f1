"""A cleaned copy of a source: what can be trained on, each row once, and a list of the rest.

The source itself is never touched.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from core.data.examples import Record
from core.data.inspection import Inspection
from core.data.problems import BIT, KINDS, codes_of
from core.data.rows import Progress
from core.data.sources import resolve
from core.data.tally import Tally
from core.errors import UserError, describe_os_error

DROPPED = (
    "duplicate", "control-characters", "encoding", "secret", "refusal", "empty-response", "leakage",
)  # fmt: skip
"""Problems for which a usable row is left out of the copy, unless the caller says otherwise."""
_IN_WORDS = {
    "near-duplicate": "nearly the same as an earlier row",
    "leakage": "it is also in the data held out for evaluation",
    "no-trained-tokens": "no token of it would be trained on",
    "too-long": "it is longer than max_length",
    "no-stop-token": "its last token does not end generation",
    "unshown-tool-call": "the model's template does not show its tool call",
    "conflicting-answers": "another row answers the same prompt differently",
    "response-length-outlier": "its answer is far longer or shorter than the others",
    "inconsistent-format": "its answer has another form than nearly all others",
    "cut-off": "its answer stops in the middle of a sentence or block",
}  # fmt: skip
"""Why, for problems that do not show in a row alone."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was written: rows kept, and rows removed by code. `list` names each of these."""

    file: Path
    list: Path
    kept: int
    removed: dict[str, int]


def write_clean(
    sources: Sequence[str],
    file: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    drop: Sequence[str] = DROPPED,
    held_out: Sequence[str] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> Cleaned:
    """Inspect a source and write the rows worth keeping, as `save_clean` does."""
    check_target(file)
    inspection = Inspection(resolve(sources), mapping=mapping, compares=bool(held_out))
    inspection.run(on_progress)
    if held_out:
        inspection.look_for(held_out)
    return save_clean(inspection, file, drop)


def save_clean(inspection: Inspection, file: Path, drop: Sequence[str] = DROPPED) -> Cleaned:
    """After a pass, write the rows worth keeping to `file` (JSONL), and what was left out and why
    beside it. UserError when `file` is there already, or when nothing would be left."""
    removed_list = check_target(file)
    removed: Counter[str] = Counter()
    temporary = file.with_name(f".{file.name}.tmp"), file.with_name(f".{removed_list.name}.tmp")
    try:
        with temporary[0].open("wb") as kept_rows, temporary[1].open("wb") as removed_rows:
            kept = 0
            for record, reason in _reasons(inspection, drop):
                if reason is None:
                    kept_rows.write(_line(record.value))
                    kept += 1
                else:
                    removed[reason["code"]] += 1
                    removed_rows.write(_line(reason))
        if not kept:
            raise UserError(f"No row of {inspection.source.name} would be left.")
        temporary[0].replace(file)
        temporary[1].replace(removed_list)
    except OSError as error:
        raise describe_os_error(error, "write") from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    return Cleaned(file, removed_list, kept, dict(removed))


def check_target(file: Path) -> Path:
    """The list that goes with a cleaned copy. UserError when the two cannot be written, or would
    replace something: worth asking before a long pass."""
    removed_list = file.with_name(f"{file.stem}.removed.jsonl")
    if file.suffix.lower() not in (".jsonl", ".ndjson"):
        raise UserError(f"{file} does not end in .jsonl.", "The cleaned copy is JSON lines.")
    if not file.parent.is_dir():
        raise UserError(f"There is no folder {file.parent}.", "Make it, or name another.")
    for path in (file, removed_list):
        if path.exists():
            raise UserError(f"{path} exists already.", "Name a file that is not there yet.")
    return removed_list


def _reasons(
    inspection: Inspection, drop: Sequence[str]
) -> Iterator[tuple[Record, dict[str, Any] | None]]:
    """Every row, with why it is left out (None: it is kept)."""
    tally = inspection.tally
    unwanted = sum(BIT[code] for code in set(drop))
    originals = _originals(tally)
    position = -1
    for position, record in enumerate(inspection.source.records()):
        if position >= tally.rows or tally.numbers[position] != record.number:
            raise _changed(inspection)
        mask = tally.masks[position]
        if tally.usable[position] and not mask & unwanted:
            yield record, None
        else:
            code, detail = _reason(inspection, position, record, drop)
            if code == "duplicate":
                detail = f"the same as row {originals[position]}"
            yield record, {"number": record.number, "code": code, "detail": detail}
    if position + 1 < tally.rows:
        raise _changed(inspection)


def _changed(inspection: Inspection) -> UserError:
    return UserError(f"{inspection.source.name} has changed since it was read.", "Try again.")


def _reason(
    inspection: Inspection, position: int, record: Record, drop: Sequence[str]
) -> tuple[str, str]:
    """The code and the words: first what makes the row unusable, then what is unwanted."""
    findings = inspection.judge.judge(record).findings
    fatal = next((finding for finding in findings if finding.fatal), None)
    if fatal is not None:
        return fatal.code, fatal.detail
    if inspection.tally.usable[position]:
        code = next(one for one in codes_of(inspection.tally.masks[position]) if one in drop)
    else:
        code = "no-trained-tokens"
    said = next((finding.detail for finding in findings if finding.code == code), None)
    return code, said or _IN_WORDS.get(code) or KINDS[code].what


def _originals(tally: Tally) -> dict[int, int]:
    """For the position of every repeated row the number of the first that is the same."""
    hashes = np.array(tally.hashes, np.uint64)
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    firsts = first[group]
    again = np.flatnonzero((firsts != np.arange(len(hashes))) & (hashes != 0))
    return {at: tally.numbers[int(firsts[at])] for at in again.tolist()}


def _line(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # integers beyond 64 bits, half surrogates in unused columns
        return json.dumps(value, default=str).encode() + b"\n"
