"""Which GPUs a run may use: CUDA_VISIBLE_DEVICES, as the CUDA runtime reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence

Card = Sequence[str | None]
"""The UUIDs of a card and of its MIG slices, the card's first."""
Place = tuple[int, int]
"""(card, part): part 0 is the whole card, the others are its slices."""
UUIDS = ("GPU-", "MIG-")
LEADING_NUMBER = re.compile(r"\+?([0-9]{1,9})")


def visible_places(setting: str, cards: Sequence[Card]) -> list[Place]:
    """What CUDA will show, in its order.

    An empty value, -1 or an unknown entry hides what comes from there on; an entry that comes twice
    hides all. An entry is an index (of which only the leading digits count) or the beginning of a
    UUID (`GPU-…`, `MIG-…`); the first entry says which of the three all others have to be. Indices
    count in PCI order; that of a card in MIG mode means its first slice, as its UUID does.
    """
    entries = [entry.strip() for entry in setting.split(",")]
    kind = entries[0][:4] if entries[0].startswith(UUIDS) else ""
    named: list[int | str] = []
    found: list[Place] = []
    for entry in entries:
        name = entry if kind and entry.startswith(kind) else None if kind else _index(entry)
        if name is None:
            break
        if name in named:
            return []
        named.append(name)
        place = _place_of(name, cards)
        if place is None:
            break
        if place in found:
            return []
        found.append(place)
    return found


def _index(entry: str) -> int | None:
    """What C's strtoul makes of it; None for what is no index."""
    match = LEADING_NUMBER.match(entry)
    return int(match[1]) if match else None


def _place_of(name: int | str, cards: Sequence[Card]) -> Place | None:
    if isinstance(name, int):
        return _usable(name, cards) if name < len(cards) else None
    matches = [
        (at, part)
        for at, card in enumerate(cards)
        for part, uuid in enumerate(card)
        if uuid and uuid.startswith(name)
    ]
    if len(matches) != 1:
        return None
    ((at, part),) = matches
    return (at, part) if part else _usable(at, cards)


def _usable(at: int, cards: Sequence[Card]) -> Place:
    """The card, or its first slice where it is cut up."""
    return at, 1 if len(cards[at]) > 1 else 0
