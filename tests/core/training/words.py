"""Rows of different length that a tiny model can learn, and how fast by which method."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

WORDS = ["one", "two", "three", "four", "five", "six", "red", "green", "blue", "black", "white"]
# What moves few numbers, or numbers far from the loss, must move them further.
RATES = {"full": 3e-3, "last-layers": 3e-3, "oft": 5e-3, "lora+": 5e-3, "p-tuning": 0.05,
         "adalora": 0.1, "vera": 0.3, "ia3": 0.3, "prefix": 0.3, "prompt": 0.9}  # fmt: skip


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


def make_completions(path: Path, count: int = 64, seed: int = 0) -> Path:
    """Prompts whose completion is a colour."""
    pairs = (_pair(number, seed) for number in range(count))
    return _write(
        path, [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in pairs]
    )


def make_pairs(path: Path, count: int = 64, seed: int = 0) -> Path:
    """Questions with two answers: chosen is a colour, rejected a number."""
    return _write(path, [_pair(number, seed) for number in range(count)])


def make_judged(path: Path, count: int = 64, seed: int = 0) -> Path:
    """Three answers in eight are colours, and good; the others are numbers, and bad."""
    rows = []
    for number in range(count):
        pair = _pair(number, seed)
        good = number % 2 == 0 and number % 8 != 0
        answer = pair["chosen" if good else "rejected"]
        rows.append({"prompt": pair["prompt"], "completion": answer, "label": good})
    return _write(path, rows)


def make_texts(path: Path, count: int = 40, seed: int = 0) -> Path:
    """Texts of very different length that repeat a few words in a fixed order."""
    generator = random.Random(seed)
    texts = [" ".join(WORDS * generator.randint(1, 6)) + f" {number}" for number in range(count)]
    return _write(path, [{"text": text} for text in texts])


def _pair(number: int, seed: int) -> dict[str, str]:
    generator = random.Random(f"{seed}/{number}")
    words = [generator.choice(WORDS) for _ in range(generator.randint(1, 5))]
    numbers, colours = WORDS[:6], WORDS[6:]
    return {
        "prompt": f"{number} {' '.join(words)}",
        "chosen": generator.choice(colours),
        "rejected": generator.choice(numbers),
    }


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
