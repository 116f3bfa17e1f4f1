"""Near-duplicates: rows whose texts share most runs of three words.

Similarity is the Jaccard index of these runs, estimated by MinHash (the `rensa` library). With
64 hashes the estimate is off by 0.05 or less, two times in three.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.data.examples import Conversation, Example, Judged, Message, Preference, Text

THRESHOLD = 0.8
HASHES = 64
_BANDS = 16
_RUN = 3
_MOST_COMPARED = 8
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93],
                np.uint64)  # fmt: skip
Signatures = NDArray[np.uint32]
Flags = NDArray[np.bool_]


@cache
def _minhash() -> Any:
    from rensa import RMinHash

    return RMinHash


def signature(example: Example) -> list[int]:
    """The MinHash of a row's text. Words run together (as in Chinese) are taken by character."""
    text = text_of(example).lower()
    words = text.split()
    if len(words) * 20 < len(text):
        words = list(text)
    runs = [" ".join(words[at : at + _RUN]) for at in range(max(1, len(words) - _RUN + 1))]
    sketch = _minhash()(num_perm=HASHES, seed=1)
    sketch.update(runs)
    digest: list[int] = sketch.digest()
    return digest


def text_of(example: Example) -> str:
    """All that is said in a row."""
    turns: tuple[Message, ...]
    match example:
        case Text(text):
            return text
        case Conversation(messages):
            turns = messages
        case Preference(prompt, chosen, rejected):
            turns = (*prompt, *chosen, *rejected)
        case Judged(prompt, completion):
            turns = (*prompt, *completion)
    return "\n".join([turn["content"] for turn in turns])


def near_duplicates(signatures: Signatures) -> Flags:
    """Which rows are at least as similar as `THRESHOLD` to a row further up."""
    found = np.zeros(len(signatures), bool)
    for members in _alike(signatures):
        _compare(members, signatures, found)
    return found


def similar_to(signatures: Signatures, others: Signatures) -> Flags:
    """Which rows are at least as similar as `THRESHOLD` to a row of `others`."""
    both = np.concatenate([others, signatures])
    found = np.zeros(len(both), bool)
    for members in _alike(both):
        known = members[members < len(others)]
        if len(known) < len(members):
            rest = members[len(known) :]
            for first in known[:_MOST_COMPARED].tolist():
                _mark(first, rest, both, found)
    return found[len(others) :]


def _alike(signatures: Signatures) -> Iterator[NDArray[np.intp]]:
    """Groups of rows, in order, whose signatures agree in a band: candidates for a comparison."""
    width = HASHES // _BANDS
    for band in range(_BANDS):
        part = signatures[:, band * width : (band + 1) * width].astype(np.uint64)
        keys = part @ _MIX  # wraps around; what is not alike after all shows in the comparison
        _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
        shared = np.flatnonzero(counts[group] > 1)
        order = shared[np.argsort(group[shared], kind="stable")]
        edges = np.flatnonzero(np.diff(group[order])) + 1
        yield from (members for members in np.split(order, edges) if len(members) > 1)


def _compare(members: NDArray[np.intp], signatures: Signatures, found: Flags) -> None:
    """Mark the members of a group that are similar to one of its first rows."""
    for at, first in enumerate(members[:_MOST_COMPARED].tolist()):
        _mark(first, members[at + 1 :], signatures, found)


def _mark(first: int, rows: NDArray[np.intp], signatures: Signatures, found: Flags) -> None:
    rows = rows[~found[rows]]
    same = (signatures[rows] == signatures[first]).mean(axis=1)
    found[rows[same >= THRESHOLD]] = True
