"""Why an answer, or a part of it, is not trained: what the cut at max_length takes away."""

from __future__ import annotations

from itertools import groupby

from core.data.encoded import IGNORED, Encoded


def why_cut(encoded: Encoded, max_length: int) -> tuple[str, ...]:
    """A sentence for every answer that loses something. `encoded` is the whole sequence."""
    runs = trained_runs(encoded.labels)
    notes = []
    for number, (start, end) in enumerate(runs, 1):
        name = f"Answer {number} of {len(runs)}"
        if len(runs) == 1:
            name = "The answer" if start > 1 else "The text"
        if start >= max_length:
            notes.append(f"{name} is not trained: it begins after the cut at {max_length:,}.")
        elif end > max_length:
            lost = end - max_length
            notes.append(
                f"{name} is cut: its last {lost:,} of {end - start:,} tokens are not trained, so"
                " it does not teach where to stop."
            )
    return tuple(notes)


def trained_runs(labels: list[int]) -> list[tuple[int, int]]:
    """Start and end of every unbroken run of trained tokens."""
    runs = []
    at = 0
    for trained, group in groupby(labels, lambda label: label != IGNORED):
        length = sum(1 for _ in group)
        if trained:
            runs.append((at, at + length))
        at += length
    return runs
