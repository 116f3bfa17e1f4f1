"""What a pass remembers of every row: a few numbers each, so that a million rows stay small."""

from __future__ import annotations

from array import array
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.answers import OTHER, cut_off, form_of, unlike
from core.data.encoding import NO_CALLS, Encoded
from core.data.examples import Preference, Text
from core.data.identity import answer_of, fingerprints, roles_of
from core.data.near import HASHES, Signatures, near_duplicates, similar_to
from core.data.problems import BIT
from core.data.report import MAX_ROWS_LISTED
from core.data.verdict import Verdict

_ARRAYS = (
    "numbers", "masks", "usable", "hashes", "prompts", "answers", "forms", "tokens", "trained",
    "signed", "signatures",
)  # fmt: skip
_COUNTS = ("ledger", "counts", "fatal", "patterns", "languages")
_TOTALS = ("truncated", "lines", "lost")
_FIRSTS = ("listed", "details")
Flags = NDArray[np.bool_]
Hashes = NDArray[np.uint64]
_RATIO = 8.0
_SPREADS = 5.0
_CHARACTERS = 100


class Tally:
    """Counts of a pass, row by row in the order of the source.

    A row's `mask` holds the codes of its problems. `ledger` counts every row once. `patterns`
    counts the usable rows by the roles of their turns, a letter each.
    """

    def __init__(self) -> None:
        self.numbers = array("Q")
        self.masks = array("I")
        self.usable = array("B")
        self.hashes = array("Q")
        self.prompts = array("Q")
        self.answers = array("Q")
        self.forms = array("B")
        self.patterns: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.ledger: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.listed: dict[str, list[int]] = {}
        self.details: dict[str, str] = {}
        """By code, what it is in the first row that has it."""
        self.fatal: Counter[str] = Counter()
        self.tokens = array("L")
        self.trained = array("L")
        self.signed = array("Q")  # positions of the rows that have a signature
        self.signatures = array("I")
        self.truncated = 0
        self.lines = 0  # of the part of a file that a scanner has read
        self.lost = 0  # whether nothing can be read after that part

    @property
    def rows(self) -> int:
        return len(self.numbers)

    @property
    def usable_rows(self) -> int:
        return self.ledger["usable"] + self.ledger["truncated"]

    def add(
        self,
        verdict: Verdict,
        encoded: Sequence[Encoded] | None = None,
        *,
        whole: bool = True,
        signature: Sequence[int] | None = None,
        language: str = "",
    ) -> None:
        """Count a row. `encoded` is None for a row that is not encoded. Unless all are (`whole`),
        tokens decide nothing in the ledger. `signature` is what near-duplicates are found by."""
        if language:
            self.languages[language] += 1
        if signature is not None:
            self.signed.append(self.rows)
            self.signatures.extend(signature)
        codes = {finding.code for finding in verdict.findings} if verdict.findings else set()
        reason = verdict.dropped if codes else None
        if encoded is not None:
            pair = isinstance(verdict.example, Preference)
            found = self._add_tokens(encoded, codes, needs_all=pair)
            reason = found if whole else None
        if any(finding.code == "no-trained-tokens" for finding in verdict.findings):
            reason = "no-trained-tokens"  # by the weights of its answers, whatever the sample
        self.ledger[reason or "usable"] += 1
        dropped = reason not in (None, "truncated")
        if dropped and reason is not None:
            self.fatal[reason] += 1
        for finding in verdict.findings:
            self.details.setdefault(finding.code, finding.detail)
        self._remember(verdict, codes, usable=not dropped)

    def _add_tokens(
        self, encoded: Sequence[Encoded], codes: set[str], *, needs_all: bool
    ) -> str | None:
        """Why the row is out, or that it is cut. `needs_all`: of two answers neither may lack."""
        trained = sum(one.trained for one in encoded)
        cut = sum(one.cut for one in encoded)
        self.tokens.append(sum(len(one.input_ids) + one.cut for one in encoded))
        self.trained.append(trained)
        if cut:
            self.truncated += 1
            codes.add("too-long")
        if any(NO_CALLS in note for one in encoded for note in one.notes):
            codes.add("unshown-tool-call")
        if trained == 0 or (needs_all and not all(one.trained for one in encoded)):
            codes.add("no-trained-tokens")
            return "no-trained-tokens"
        if not all(one.stop for one in encoded if not one.cut):
            codes.add("no-stop-token")
        return "truncated" if cut else None

    def _remember(self, verdict: Verdict, codes: set[str], *, usable: bool) -> None:
        self.numbers.append(verdict.record.number)
        self.usable.append(usable)
        mask = 0
        for code in codes:
            mask |= BIT[code]
            self.counts[code] += 1
            self._list(code, verdict.record.number)
        self.masks.append(mask)
        example = verdict.example
        if example is None:
            row, prompt, answer, form = 0, 0, "", OTHER
        else:
            row, prompt = fingerprints(example)
            answer = answer_of(example)
            form = OTHER if isinstance(example, Text) else form_of(answer)
            self.patterns[roles_of(example)] += 1
        self.hashes.append(row)
        self.prompts.append(prompt)
        self.answers.append(len(answer))
        self.forms.append(form)

    def as_part(self) -> dict[str, Any]:
        """All of it as JSON, for the process that puts the parts together."""
        arrays = {name: b64encode(getattr(self, name).tobytes()).decode() for name in _ARRAYS}
        return {**arrays, **{name: getattr(self, name) for name in (*_COUNTS, *_TOTALS, *_FIRSTS)}}

    def append_part(self, part: dict[str, Any], after: int) -> None:
        """Add the next part of the source; its row numbers begin after `after`."""
        shifts = {"numbers": after, "signed": self.rows}
        for name in _ARRAYS:
            values = array(getattr(self, name).typecode)
            values.frombytes(b64decode(part[name]))
            if name in shifts:
                shifted = np.array(values, np.uint64) + np.uint64(shifts[name])
                values = array("Q", shifted.tobytes())
            getattr(self, name).extend(values)
        for name in _COUNTS:
            getattr(self, name).update(part[name])
        for name in _TOTALS:
            setattr(self, name, getattr(self, name) + part[name])
        self.details = {**part["details"], **self.details}
        for code, rows in part["listed"].items():
            for number in rows:
                self._list(code, number + after)

    def compare(self) -> None:
        """Find what only shows between rows: duplicates, conflicts, outliers. Once, at the end."""
        hashes, prompts = self._hash_arrays()
        again = repeated(hashes)
        self._mark("duplicate", again)
        self._mark("near-duplicate", self._near() & ~again)
        self._mark("conflicting-answers", conflicting(prompts, hashes))
        self._mark("response-length-outlier", outliers(np.array(self.answers), hashes != 0))
        forms = np.array(self.forms, np.uint8)
        self._mark("inconsistent-format", unlike(forms))
        self._mark("cut-off", cut_off(forms))

    def _near(self) -> Flags:
        return self._spread(near_duplicates(self._signatures()))

    def _spread(self, flags: Flags) -> Flags:
        """Flags of the rows with a signature as flags of all rows."""
        spread = np.zeros(self.rows, bool)
        spread[np.array(self.signed, np.int64)] = flags
        return spread

    def _signatures(self) -> Signatures:
        return np.frombuffer(self.signatures, np.uint32).reshape(-1, HASHES)

    def _hash_arrays(self) -> tuple[Hashes, Hashes]:
        return np.array(self.hashes, np.uint64), np.array(self.prompts, np.uint64)

    def shared_with(self, other: Tally) -> tuple[Flags, Flags]:
        """Which rows are also in `other` to the letter, and which nearly."""
        mine, theirs = self._hash_arrays()[0], other._hash_arrays()[0]
        exact = np.isin(mine, theirs[theirs != 0])
        near = self._spread(similar_to(self._signatures(), other._signatures()))
        return exact, near & ~exact

    def mark_leaks(self, exact: Flags, near: Flags) -> None:
        """Mark rows that are also in the data that are held out, and no others."""
        masks = np.frombuffer(self.masks, np.uint32)
        masks &= np.uint32(~BIT["leakage"] & 0xFFFFFFFF)
        for known in (self.counts, self.listed):
            known.pop("leakage", None)  # type: ignore[attr-defined]
        self._mark("leakage", exact | near)

    def _mark(self, code: str, rows: Flags) -> None:
        positions = np.flatnonzero(rows)
        for position in positions.tolist():
            self.masks[position] |= BIT[code]
            self._list(code, self.numbers[position])
        if len(positions):
            self.counts[code] = len(positions)

    def _list(self, code: str, number: int) -> None:
        listed = self.listed.setdefault(code, [])
        if len(listed) < MAX_ROWS_LISTED:
            listed.append(number)

    def positions_with(self, code: str) -> list[int]:
        """The positions (from 0) of all rows that have this problem, so far."""
        masks = np.array(self.masks[:])
        found: list[int] = np.flatnonzero(masks & BIT[code]).tolist()
        return found


def repeated(hashes: Hashes) -> Flags:
    """Which values are there already further up (0 is no value)."""
    _, first = np.unique(hashes, return_index=True)
    again = np.ones(len(hashes), bool)
    again[first] = False
    flags: Flags = again & (hashes != 0)
    return flags


def conflicting(prompts: Hashes, hashes: Hashes) -> Flags:
    """Which rows have the prompt of another row that is not the same row."""
    pairs = np.unique(np.stack([prompts, hashes], axis=1), axis=0)
    values, counts = np.unique(pairs[:, 0], return_counts=True)
    flags: Flags = np.isin(prompts, values[counts > 1]) & (prompts != 0)
    return flags


def outliers(lengths: NDArray[np.int64], counted: Flags) -> Flags:
    """Lengths off the median by a factor of 8, by 5 robust standard deviations of their
    logarithm, and by 100 characters."""
    logs = np.log(np.maximum(lengths.astype(float), 1.0))
    if counted.sum() < 20:
        return np.zeros(len(lengths), bool)
    distance = np.abs(logs - np.median(logs[counted]))
    spread = 1.4826 * np.median(distance[counted])
    absolute = np.abs(lengths - np.median(lengths[counted]))
    far = (distance >= np.log(_RATIO)) & (distance >= _SPREADS * spread)
    flags: Flags = counted & far & (absolute >= _CHARACTERS)
    return flags
