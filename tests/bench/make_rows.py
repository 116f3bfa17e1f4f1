"""Writes a big JSONL file of chats, a few of its rows broken, for measuring the inspector.

    python -m tests.bench.make_rows FILE [ROWS]

Rows are about 1 KB; 1,000,000 of them make 1 GB. Seeded: the same file every time.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

SEED = 7
_WORDS = (  # noqa: SIM905 - a text is easier to read
    "the model reads every row of your data before it trains on one of them and learns what the"
    " answers have in common so a good answer is short and right while a bad one is long and"
    " wrong or says nothing at all which happens more often than people think 1984 42 naïve"
    " Grüße 你好 data loss tokens batch memory gradient epoch rate cosine adapter rank"
).split()


def make_row(draw: random.Random, *, sound: bool = False) -> str:
    """One line: a sound chat of 2 to 6 turns; unless all are `sound`, one in 1,000 is not."""
    chance = draw.random() + sound
    if chance < 0.0002:
        return '{"messages": [{"role": "user", "content": "cut off'
    turns = []
    for _ in range(draw.randint(1, 3)):
        turns.append({"role": "user", "content": _text(draw, 30)})
        turns.append({"role": "assistant", "content": _text(draw, 60)})
    if chance < 0.0005:
        turns[-1]["content"] = ""
    elif chance < 0.001:
        turns[0]["role"] = "narrator"
    return json.dumps({"messages": turns}, ensure_ascii=False)


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(_WORDS, k=draw.randint(words // 2, words * 3 // 2)))


def write_rows(path: Path, rows: int, *, sound: bool = False) -> None:
    draw = random.Random(SEED)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            if number % 500 == 499:
                continue  # its place is taken by a copy of the row before it
            line = make_row(draw, sound=sound) + "\n"
            file.write(line * (2 if number % 500 == 498 else 1))


if __name__ == "__main__":
    write_rows(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000)
