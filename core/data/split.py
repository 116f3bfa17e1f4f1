"""The held-out split: the same every time, and no row on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

MINIMUM = 50


def split(groups: Sequence[int], fraction: float, seed: int = 0) -> tuple[list[int], list[int]]:
    """Positions of the rows to train on and of those to hold out, both in order.

    `groups` has a number for each row; rows with the same number (exact duplicates, rows of
    one prompt) stay on one side. Held out is `fraction` of the rows, but at least 50 where that
    is not more than a fifth of them; none when `fraction` is 0 or there is one group only.
    """
    wanted = held_out_rows(len(groups), fraction)
    members: dict[int, list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault(group, []).append(position)
    held: list[int] = []
    for group in sorted(members, key=lambda group: _rank(seed, group)):
        if len(held) >= wanted or len(members) < 2:
            break
        if len(held) + len(members[group]) <= max(wanted, 1) * 2:  # not one huge group
            held += members[group]
    out = set(held)
    if len(out) == len(groups):
        return list(range(len(groups))), []
    return [at for at in range(len(groups)) if at not in out], sorted(out)


def held_out_rows(rows: int, fraction: float) -> int:
    if fraction <= 0 or rows < 2:
        return 0
    return min(max(round(rows * fraction), min(MINIMUM, rows // 5)), rows - 1)


def _rank(seed: int, group: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
