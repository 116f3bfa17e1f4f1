"""From the tally of a pass to the figures and sentences of its report."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from core.data.files import Lists
from core.data.parts import evaluation_part, is_held_out_name, part_of
from core.data.problems import BIT, CODES, KINDS
from core.data.report import (
    MAX_ROWS_LISTED,
    Estimate,
    Leakage,
    Padding,
    Problem,
    Sample,
    Severity,
    Spread,
    Statistics,
    TokenStatistics,
)
from core.data.sources import Source
from core.data.tally import Tally
from core.text import clip, printable

FEW = 500
VERY_FEW = 50
_BINS = 24
_NAMED, _NAME_WIDTH = 8, 40
_FAR = 2
_BATCH = 8
_CHUNK_BATCHES = 32
_USUAL_LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
_OF_ENCODED = ("too-long", "no-trained-tokens", "no-stop-token", "unshown-tool-call")
_SEVERITIES = ("error", "warning", "info")
_ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
Lengths = NDArray[np.int64]
NO_LISTS: Mapping[Path, Lists] = {}


def problems(
    tally: Tally, source: Source, lists: Mapping[Path, Lists] = NO_LISTS, *, complete: bool
) -> tuple[Problem, ...]:
    """All problems, the worst first. `lists` are those in the files that were read."""
    found = [_problem(code, tally) for code in CODES if tally.counts[code]]
    held_out = held_out_lists(lists)
    found += [*_unread(lists, held_out), *_parts(source, held_out)]
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
    message = f"{count} {'row' if count == 1 else 'rows'} {agree(kind.what, count)}"
    if sampled := _sampled(code, tally):
        message = f"In a sample of {sampled} rows: {message}"
    example = printable(tally.details.get(code, ""), single_line=True)
    return Problem(code, severity, count, tuple(tally.listed[code]), message, kind.remedy, example)


def held_out_lists(lists: Mapping[Path, Lists]) -> dict[Path, str]:
    """The list in each file that is held out by its name, where another is trained on."""
    found = {}
    for path, one in lists.items():
        parts = evaluation_part({name: part_of(name) for name in one.others})
        if parts and one.taken and not is_held_out_name(one.taken):
            found[path] = parts[0]
    return found


def _unread(lists: Mapping[Path, Lists], held_out: Mapping[Path, str]) -> list[Problem]:
    """That files hold lists of rows beside those that are read."""
    taken: dict[str, None] = {}
    others: Counter[str] = Counter()
    for path, one in lists.items():
        left = {name: rows for name, rows in one.others.items() if name != held_out.get(path)}
        if one.taken and left:
            taken[one.taken] = None
            others.update(left)
    if not others:
        return []
    kind, count = KINDS["unread-lists"], others.total()
    named = ", ".join(f"{_shown(name)} ({rows:,})" for name, rows in others.most_common(_NAMED))
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    read = " and ".join(map(_shown, taken))
    rows = "1 row" if count == 1 else f"{count:,} rows"
    message = f"{rows} {agree(kind.what, count)} Read: {read}. Not read: {named}{more}."
    return [Problem("unread-lists", kind.severity, count, (), message, kind.remedy)]


def _parts(source: Source, lists: Mapping[Path, str]) -> Iterator[Problem]:
    """What becomes of files and lists whose names tell what they are for."""
    named = (f"{path.name}/{name}" for path, name in lists.items())
    held_out, misnamed = (*source.held_out, *named), source.misnamed
    unread = (*source.spare, *source.unnamed)
    if held_out or unread:
        it = (
            ("its name this is", "it is")
            if len(held_out) == 1
            else ("their names these are", "they are")
        )
        apart = f"By {it[0]} for evaluation, and so {it[1]} not trained on"
        parts = ((apart, held_out), ("Not read at all", unread))
        said = " ".join(f"{what}: {_names(names)}." for what, names in parts if names)
        severity: Severity = "warning" if source.unnamed else KINDS["set-apart"].severity
        yield _about_files("set-apart", severity, (*held_out, *unread), said)
    if misnamed:
        message = (
            f"By its name this is for evaluation, and yet it is trained on: {_names(misnamed)}."
        )
        yield _about_files("named-for-evaluation", "warning", misnamed, message)


def _about_files(code: str, severity: Severity, names: Collection[str], message: str) -> Problem:
    return Problem(code, severity, len(names), (), message, KINDS[code].remedy)


def _names(names: Sequence[str]) -> str:
    shown = [_shown(_short(PurePath(name))) for name in names[:_NAMED]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(shown)}{more}"


def _short(path: PurePath) -> str:
    """Files by their own names, with the folder where that is what tells; splits in full."""
    told_by_folder = part_of(path.name) is None and part_of(path.parent.name)
    if not path.is_absolute():
        return str(path)
    return "/".join(path.parts[-2:]) if told_by_folder else path.name


def _shown(name: str) -> str:
    return clip(printable(name, single_line=True), _NAME_WIDTH)


def _sampled(code: str, tally: Tally) -> int:
    """How many rows this problem was looked for in; 0 for all."""
    if code in _OF_ENCODED and not (code == "no-trained-tokens" and tally.fatal[code]):
        looked = len(tally.tokens)
    elif code == "near-duplicate":
        looked = len(tally.signed)
    else:
        return 0
    return looked if looked < tally.usable_rows else 0


_SINGULAR = {"are": "is", "have": "has", "lack": "lacks", "do": "does", "repeat": "repeats",
             "ask": "asks", "answer": "answers", "hold": "holds", "cannot": "cannot"}  # fmt: skip


def agree(what: str, count: int) -> str:
    """What is wrong with so many rows, with its verbs in the right number."""
    verb, rest = what.split(" ", 1)
    one = f"{_SINGULAR.get(verb, verb)} {rest.replace(' and are ', ' and is ')}"
    return one if count == 1 else what


def ordered(ledger: Mapping[str, int]) -> dict[str, int]:
    """A ledger in its usual order, without what does not occur."""
    order = ("usable", "truncated", *CODES)
    return {key: ledger[key] for key in order if ledger.get(key) or key == "usable"}


def leakage_of(source: str, tally: Tally, training: Tally) -> Leakage:
    """How many rows of the held-out data (`tally`) are also among those that are trained on."""
    exact, near = tally.shared_with(training)
    positions = np.flatnonzero(exact | near)[:MAX_ROWS_LISTED].tolist()
    numbers = tuple(tally.numbers[position] for position in positions)
    counts = int(exact.sum()), int(near.sum())
    return Leakage(source, tally.rows, tally.usable_rows, *counts, numbers)


def sample_of(tally: Tally) -> Sample | None:
    """None where every usable row was looked at."""
    looked = len(tally.signed)
    of = tally.usable_rows + tally.fatal["no-trained-tokens"]
    if not looked or looked >= of:
        return None
    return Sample(looked, of, margin(looked))


def estimate_of(tally: Tally) -> Estimate | None:
    """None where every usable row was tokenised, or none: then there is nothing to estimate."""
    looked = len(tally.tokens)
    of = tally.usable_rows + tally.fatal["no-trained-tokens"]
    if not looked or looked >= of:
        return None
    masks = np.array(tally.masks[:])
    masks = masks[np.array(tally.usable[: len(masks)]) > 0]
    empty = (masks & BIT["no-trained-tokens"]) > 0
    cut = ((masks & BIT["too-long"]) > 0) & ~empty
    truncated, none = (round(int(rows.sum()) * of / looked) for rows in (cut, empty))
    return Estimate(looked, of, truncated, none, margin(looked))


def margin(rows: int) -> float:
    """How far a share among so many rows may be off, 95 times in 100: at most 1.96·√(¼/n), and
    so for every percentile (the normal approximation of the binomial distribution)."""
    return float(round(0.98 / rows**0.5, 4))


def statistics(tally: Tally) -> Statistics | None:
    """What the usable rows look like; None when there are none."""
    patterns = tally.patterns.copy()
    if not patterns:
        return None
    turns: Counter[int] = Counter()
    roles: Counter[str] = Counter()
    for pattern, rows in patterns.items():
        turns[len(pattern) or 1] += rows
        for letter in _ROLES:
            roles[_ROLES[letter]] += pattern.count(letter) * rows
    lengths = np.array(tally.answers[:], np.int64)[np.array(tally.usable[: len(tally.answers)]) > 0]
    languages = tally.languages.copy()
    looked = sum(languages.values())
    return Statistics(
        turns=spread_of(np.repeat(list(turns), list(turns.values()))),
        responses=spread_of(lengths),
        roles={role: count for role, count in roles.items() if count},
        languages={
            name: round(rows / looked, 4)
            for name, rows in sorted(languages.items(), key=lambda item: (-item[1], item[0]))
        },
        language_rows=looked,
    )


def spread_of(values: Lengths) -> Spread:
    if not len(values):
        return Spread(0, 0, 0, 0.0)
    counts = np.sort(values).tolist()
    mean = round(sum(counts) / len(counts), 1)
    return Spread(percentile(counts, 50), percentile(counts, 95), counts[-1], mean)


def token_statistics(
    tally: Tally, max_length: int, *, complete: bool = True
) -> TokenStatistics | None:
    """Figures over the rows that were encoded; None when there are none. Those on padding are
    worked out when the pass is complete."""
    if not tally.tokens:
        return None
    lengths = np.array(tally.tokens[:], np.int64)
    counts = np.sort(lengths).tolist()
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
        margin=margin(len(counts)) if scale > 1 else 0.0,
        cut_at=tuple((length, round(rows * scale)) for length, rows in cut),
        recommended_length=min(few, default=_USUAL_LENGTHS[-1]),
        rows=max(usable, len(counts)),
        total_margin=_margin_of_mean(lengths) if scale > 1 else 0.0,
        responses=spread_of(np.array(tally.trained[: len(counts)], np.int64)),
        padding=padding_of(np.minimum(lengths, max_length), max_length) if complete else None,
    )


def _margin_of_mean(values: Lengths) -> float:
    """How far the mean (and the total) may be off, as a share of it, 95 times in 100."""
    error = 1.96 * float(values.std()) / len(values) ** 0.5
    return float(round(error / max(1.0, float(values.mean())), 4))


def padding_of(lengths: Lengths, max_length: int) -> Padding:
    """What padding costs: every batch is padded to its longest row; packed rows fill max_length."""
    order = np.random.default_rng(0).permutation(len(lengths))
    shuffled = lengths[order]
    chunk = _BATCH * _CHUNK_BATCHES
    grouped = np.concatenate(
        [np.sort(shuffled[at : at + chunk]) for at in range(0, len(shuffled), chunk)]
    )
    bins = _packed_bins(lengths, max_length)
    return Padding(_waste(shuffled), _waste(grouped), _unused(lengths, bins * max_length))


def _waste(lengths: Lengths) -> float:
    """The share of padding in batches of consecutive rows."""
    full = lengths[: len(lengths) - len(lengths) % _BATCH].reshape(-1, _BATCH)
    rest = lengths[full.size :]
    computed = int(full.max(axis=1, initial=0).sum()) * _BATCH
    computed += int(rest.max(initial=0)) * len(rest)
    return _unused(lengths, computed)


def _unused(lengths: Lengths, computed: int) -> float:
    """The share of what is computed that is no row's token."""
    return round(1 - float(lengths.sum()) / computed, 4) if computed else 0.0


def _packed_bins(lengths: Lengths, size: int) -> int:
    """Sequences of `size` tokens that hold all rows: best fit, the longest rows first. Rows are
    counted by length and sequences by the room that is left, so that a million take no longer."""
    room: Counter[int] = Counter()
    rooms: list[int] = []  # the amounts of room that there are, in order
    bins = 0

    def leave(amount: int, count: int) -> None:
        if not room[amount] and count:
            insort(rooms, amount)
        room[amount] += count

    values, counts = np.unique(lengths[lengths > 0], return_counts=True)
    for length, left in zip(values[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while left and (at := bisect_left(rooms, length)) < len(rooms):
            free = rooms[at]
            taken = min(left, room[free])
            left -= taken
            room[free] -= taken
            if not room[free]:
                rooms.pop(at)
            leave(free - length, taken)
        each = size // length
        whole, over = divmod(left, each)
        bins += whole + bool(over)
        leave(size - each * length, whole)
        leave(size - over * length, int(bool(over)))
    return bins


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The smallest value that at least `percent` of the values do not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def histogram(ordered: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """(upper bound, rows) of equal bins from 0 on. Where a few rows are far longer than the rest,
    the last bin takes all of these, for else they would press the others into one."""
    usual = percentile(ordered, 99)
    top = ordered[-1] if ordered[-1] <= _FAR * usual else usual
    width = max(1, -(-top // _BINS))
    bins: dict[int, int] = {}
    for value in ordered:
        upper = max(1, -(-value // width)) * width
        bins[upper] = bins.get(upper, 0) + 1
    last = max(-(-top // width), 1) * width
    equal = tuple((upper, bins.get(upper, 0)) for upper in range(width, last + 1, width))
    far = sum(rows for upper, rows in bins.items() if upper > last)
    return (*equal, (ordered[-1], far)) if far else equal
