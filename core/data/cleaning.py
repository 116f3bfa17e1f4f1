"""A cleaned copy of a source: what can be trained on, each row once, and a list of the rest.

The source itself is never touched.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from core.data.identity import row_hash
from core.data.inspection import Inspection
from core.data.sources import resolve
from core.data.verdict import Verdict
from core.errors import UserError, describe_os_error

DROPPED = ("duplicate", "control-characters", "encoding", "secret", "refusal", "empty-response")
"""Problems for which a usable row is left out of the copy, unless the caller says otherwise."""


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
) -> Cleaned:
    """Write the rows worth keeping to `file` (JSONL), and what was left out and why beside it.

    UserError when `file` is there already, or when nothing would be left.
    """
    source = resolve(sources)
    removed_list = file.with_name(f"{file.stem}.removed.jsonl")
    for path in (file, removed_list):
        if path.exists():
            raise UserError(f"{path} exists already.", "Name a file that is not there yet.")
    inspection = Inspection(source, mapping=mapping, near=False)
    removed: Counter[str] = Counter()
    temporary = file.with_name(f".{file.name}.tmp"), file.with_name(f".{removed_list.name}.tmp")
    try:
        with temporary[0].open("wb") as kept_rows, temporary[1].open("wb") as removed_rows:
            kept = 0
            for verdict, reason in _reasons(inspection, drop):
                if reason is None:
                    kept_rows.write(_line(verdict.record.value))
                    kept += 1
                else:
                    removed[reason["code"]] += 1
                    removed_rows.write(_line(reason))
        if not kept:
            raise UserError(f"No row of {source.name} would be left.")
        temporary[0].replace(file)
        temporary[1].replace(removed_list)
    except OSError as error:
        raise describe_os_error(error, "write") from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)
    return Cleaned(file, removed_list, kept, dict(removed))


def _reasons(
    inspection: Inspection, drop: Sequence[str]
) -> Iterator[tuple[Verdict, dict[str, Any] | None]]:
    """Every row, with why it is left out (None: it is kept)."""
    seen: dict[int, int] = {}
    for verdict, _ in inspection.steps():
        number = verdict.record.number
        finding = next((f for f in verdict.findings if f.fatal or f.code in drop), None)
        if finding is not None:
            yield verdict, {"number": number, "code": finding.code, "detail": finding.detail}
            continue
        assert verdict.example is not None
        first = seen.setdefault(row_hash(verdict.example), number)
        if first != number and "duplicate" in drop:
            detail = f"the same as row {first}"
            yield verdict, {"number": number, "code": "duplicate", "detail": detail}
        else:
            yield verdict, None


def _line(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # integers beyond 64 bits, half surrogates in unused columns
        return json.dumps(value, default=str).encode() + b"\n"
