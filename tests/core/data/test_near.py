"""Near-duplicates: what shares most of its words with an earlier row is found, no more."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np

from core.data.examples import Text
from core.data.inspection import inspect
from core.data.near import near_duplicates, signature
from tests.core.data.test_inspection import ask, problem, write

WORDS = [f"w{number}" for number in range(3000)]


def texts(draw: random.Random, rows: int, words: int = 80) -> list[str]:
    return [" ".join(draw.choices(WORDS, k=words)) for _ in range(rows)]


def flags(rows: list[str]) -> list[bool]:
    return near_duplicates(np.array([signature(Text(row)) for row in rows], np.uint32)).tolist()


def test_finds_copies_with_a_few_changes() -> None:
    rows = texts(random.Random(1), 300)
    changed = [row.replace(row.split()[40], "other", 1) for row in rows[:100]]  # Jaccard 0.93
    assert flags(rows) == [False] * 300
    found = flags(rows + changed)
    assert not any(found[:300])
    assert sum(found[300:]) >= 98


def test_leaves_alone_what_shares_half() -> None:
    rows = texts(random.Random(2), 200)
    half = [row[: len(row) // 2] + " " + texts(random.Random(n), 1, 40)[0]
            for n, row in enumerate(rows)]  # fmt: skip
    assert sum(flags(rows + half)) <= 2


def test_text_without_spaces() -> None:
    draw = random.Random(3)
    rows = ["".join(chr(draw.randint(0x4E00, 0x9000)) for _ in range(200)) for _ in range(20)]
    assert flags([*rows, rows[4][:-3] + "好"]) == [False] * 20 + [True]
    assert flags(["", "", "x"]) == [False, True, False]


def test_is_reported_apart_from_exact_duplicates(tmp_path: Path) -> None:
    rows = texts(random.Random(4), 30)
    chats = [ask(row, "yes") for row in rows]
    near = ask(rows[5] + " indeed", "yes")
    report = inspect(write(tmp_path / "a.jsonl", [*chats, chats[7], near]))
    assert problem(report, "duplicate").rows == (31,)
    assert problem(report, "near-duplicate").rows == (32,)
    assert "0.8" in problem(report, "near-duplicate").message
    json.dumps(report.as_json())
