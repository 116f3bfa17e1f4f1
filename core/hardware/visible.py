"""Which GPUs a run may use: CUDA_VISIBLE_DEVICES, as the CUDA runtime reads it."""

from __future__ import annotations

from collections.abc import Sequence

Card = Sequence[str | None]
"""The UUIDs of a card and of its MIG slices, the card's first."""
Place = tuple[int, int]
"""(card, part): part 0 is the whole card, the others are its slices."""


def visible_places(setting: str, cards: Sequence[Card]) -> list[Place]:
    """What CUDA will show, in its order.

    An empty value, -1 or an unknown entry hides what comes from there on. An entry is an index or
    the beginning of a UUID (`GPU-…`, `MIG-…`). Indices count in PCI order; that of a card in MIG
    mode means its first slice, as its UUID does.
    """
    found: list[Place] = []
    for entry in setting.split(","):
        place = _place_of(entry.strip(), cards)
        if place is None or place in found:
            break
        found.append(place)
    return found


def _place_of(entry: str, cards: Sequence[Card]) -> Place | None:
    if entry.isascii() and entry.isdigit():
        return _usable(int(entry), cards) if int(entry) < len(cards) else None
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    matches = [
        (at, part)
        for at, card in enumerate(cards)
        for part, uuid in enumerate(card)
        if uuid and uuid.startswith(entry)
    ]
    if len(matches) != 1:
        return None
    ((at, part),) = matches
    return (at, part) if part else _usable(at, cards)


def _usable(at: int, cards: Sequence[Card]) -> Place:
    """The card, or its first slice where it is cut up."""
    return at, 1 if len(cards[at]) > 1 else 0
