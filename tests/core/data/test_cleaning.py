"""The cleaned copy and the list of what is missing in it; advice by size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.data.advice import advise
from core.data.cleaning import write_clean
from core.data.inspection import inspect
from core.data.report import Problem, Report, TokenStatistics
from core.errors import UserError
from tests.core.data.test_inspection import GOOD, ask, write


def test_writes_what_is_worth_keeping(tmp_path: Path) -> None:
    bad = ["{", ask("x", ""), GOOD[3], ask("x", "\x1b[2J"), ask("y", "I'm sorry, but I can't.")]
    source = write(tmp_path / "a.jsonl", [*GOOD, *bad])
    before = Path(source[0]).read_bytes()
    cleaned = write_clean(source, tmp_path / "b.jsonl")
    assert cleaned.kept == 30
    assert cleaned.removed == {
        "invalid-json": 1, "empty-response": 1, "duplicate": 1, "control-characters": 1,
        "refusal": 1,
    }  # fmt: skip
    assert [json.loads(line) for line in cleaned.file.open()] == GOOD
    removed = [json.loads(line) for line in cleaned.list.open()]
    assert [row["number"] for row in removed] == [31, 32, 33, 34, 35]
    assert removed[2]["detail"] == "the same as row 4"
    assert Path(source[0]).read_bytes() == before
    again = inspect([str(cleaned.file)])
    assert again.ledger == {"usable": 30}
    kept = write_clean(source, tmp_path / "c.jsonl", drop=())
    assert kept.kept == 33


def test_never_overwrites_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(UserError, match="exists already"):
        write_clean(source, tmp_path / "a.jsonl")
    with pytest.raises(UserError, match="No row"):
        write_clean(write(tmp_path / "bad.jsonl", ["{"]), tmp_path / "b.jsonl")
    with pytest.raises(UserError):
        write_clean(source, tmp_path / "no" / "b.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "bad.jsonl"]


def test_advice_goes_with_the_size() -> None:
    def texts(rows: int, **more: object) -> str:
        report = Report("a", "messages", rows, rows, **more)  # type: ignore[arg-type]
        found = advise(report)
        assert all(one.why for one in found)
        return " ".join(one.text for one in found)

    assert "prompt" in texts(20)
    assert "500 to 1,000" in texts(100)
    assert "better rows" in texts(600)
    assert "Rank 64" in texts(100_000)
    assert advise(Report("a", "text", 5, 0)) == ()
    repeated = Problem("duplicate", "warning", 90, (1,), "")
    assert "repeated" in texts(1000, problems=(repeated,))
    uneven = TokenStatistics(1, 1, 50, 400, 500, 600, 0, recommended_length=512)
    assert "max_length to 512" in texts(1000, tokens=uneven)
    assert "pack" in texts(1000, tokens=uneven)
