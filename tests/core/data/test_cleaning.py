"""The cleaned copy and the list of what is missing in it; advice by size."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.data.advice import advise
from core.data.cleaning import save_clean, write_clean
from core.data.inspection import Inspection, inspect
from core.data.report import Padding, Problem, Report, Sample, TokenStatistics
from core.data.sources import resolve
from core.data.tokenizer import load_tokenizer
from core.errors import UserError
from tests.core.data.conftest import MakeFolder
from tests.core.data.test_inspection import GOOD, ask, write
from tests.core.data.test_tokenizer import CHATML, SPECIALS


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


def test_long_integers_keep_their_digits(tmp_path: Path) -> None:
    rows = [{**row, "id": 10**24 + at} for at, row in enumerate(GOOD)]
    source = write(tmp_path / "a.jsonl", rows)
    cleaned = write_clean(source, tmp_path / "b.jsonl")
    assert [json.loads(line) for line in cleaned.file.open()] == rows


def test_says_when_the_source_has_changed(tmp_path: Path) -> None:
    for change in ("", "\n", json.dumps(ask("new", "new")) + "\n"):
        source = write(tmp_path / "a.jsonl", GOOD)
        one = Inspection(resolve(source))
        one.run()
        rest = Path(source[0]).read_text().split("\n", 1)[1]
        Path(source[0]).write_text(change + rest + change)
        with pytest.raises(UserError, match="changed"):
            save_clean(one, tmp_path / "b.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_rows_without_trained_tokens_are_left_out(tmp_path: Path, make_folder: MakeFolder) -> None:
    tokenizer = load_tokenizer(make_folder(CHATML, SPECIALS, eos="<|im_end|>"))
    source = write(tmp_path / "a.jsonl", [*GOOD, ask("word " * 100, "never seen")])
    one = Inspection(resolve(source), tokenizer=tokenizer, max_length=64)
    one.run()
    assert save_clean(one, tmp_path / "b.jsonl").removed == {"no-trained-tokens": 1}


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
        assert all(one.why and one.source for one in found)
        assert len({one.text for one in found}) == len(found)
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
    assert "pack" not in texts(1000, tokens=uneven)
    padded = replace(uneven, padding=Padding(0.4, 0.05, 0.01))
    assert "pack" in texts(1000, tokens=padded)
    few = Sample(100, 10_000, 0.1)
    near = Problem("near-duplicate", "info", 9, (1,), "")
    assert "repeated" in texts(10_000, problems=(near,), sample=few)
    assert "repeated" not in texts(10_000, problems=(near,))
    for code, words in [("leakage", "held out"), ("pii", "personal"), ("secret", "keys")]:
        assert words in texts(1000, problems=(Problem(code, "error", 1, (1,), ""),))
    for code, words in [("refusal", "refusals"), ("conflicting-answers", "conflicting")]:
        assert words in texts(1000, problems=(Problem(code, "warning", 100, (1,), ""),))
