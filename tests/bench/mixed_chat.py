"""Chat rows of very different length, for benches: the demo's requests, one to eight in a row."""

from __future__ import annotations

import json
import random
from pathlib import Path

from core.paths import presets_root

TURNS = (1, 1, 1, 2, 2, 3, 5, 8)


def write_mixed_chat(folder: Path, train: int, held_out: int, seed: int = 0) -> tuple[Path, Path]:
    """train.jsonl and heldout.jsonl, from the demo's own train and held-out rows."""
    folder.mkdir(parents=True, exist_ok=True)
    demo = presets_root() / "demo"
    counts = {"train": train, "heldout": held_out}
    places = []
    for name, count in counts.items():
        source = [json.loads(line) for line in (demo / f"{name}.jsonl").open(encoding="utf-8")]
        rows = _conversations(source, count, random.Random(f"{seed}/{name}"))
        place = folder / f"{name}.jsonl"
        place.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        places.append(place)
    return places[0], places[1]


def _conversations(
    source: list[dict[str, list[dict[str, str]]]], count: int, chance: random.Random
) -> list[dict[str, list[dict[str, str]]]]:
    rows = []
    for number in range(count):
        picked = chance.sample(source, TURNS[number % len(TURNS)])
        rows.append({"messages": [turn for row in picked for turn in row["messages"]]})
    chance.shuffle(rows)
    return rows
