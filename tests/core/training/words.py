"""Rows of different length that a tiny model can learn."""

from __future__ import annotations

import json
import random
from pathlib import Path

WORDS = ["one", "two", "three", "four", "five", "six", "red", "green", "blue", "black", "white"]


def make_rows(path: Path, count: int = 64, seed: int = 0) -> Path:
    """Conversations of different length whose answer repeats the question's last word."""
    generator = random.Random(seed)
    lines = []
    for number in range(count):
        words = [generator.choice(WORDS) for _ in range(generator.randint(1, 5))]
        question = f"{number} {' '.join(words)}"
        messages = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": words[-1]},
        ]
        lines.append(json.dumps({"messages": messages}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
