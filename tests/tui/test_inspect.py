"""`tunedeck inspect`: the report, the cleaned copy, leakage, samples."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from core.data import inspection
from core.errors import UserError
from tests.tui.conftest import HOSTILE
from tests.tui.test_data import turn, write
from tui.commands.data import inspect


def run(*words: str, fails: bool = False) -> Result:
    result = CliRunner().invoke(inspect, words, standalone_mode=False)
    if not fails and result.exception is not None:
        raise result.exception
    return result


def as_json(*words: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(run(*words, "--json").stdout)
    return tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Twenty sound rows, one twice, one broken, one that attacks the terminal."""
    rows = [turn(f"What is number {n}?", f"It is the number {n}.") for n in range(20)]
    return write(tmp_path / "a.jsonl", [*rows, rows[3], "{broken", turn(HOSTILE, HOSTILE)])


def test_the_report_for_people(source: Path) -> None:
    result = run(str(source))
    assert result.return_value == 0
    for words in ("messages", "23, 22 usable", "duplicate × 1 (row 21)", "invalid-json", "English",
                  "22 user, 22 assistant", "Advice", "Brown et al. 2020"):  # fmt: skip
        assert words in result.stdout
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout


def test_json_holds_nothing_that_a_terminal_would_obey(tmp_path: Path) -> None:
    evil = "\x9b31m\u202e\x7f\x1b[2J"
    path = write(tmp_path / f"{evil}.jsonl", [{f"kys{evil}": "q", f"vast{evil}": "a"}])
    result = run(str(path), "--json", fails=True)
    assert result.stdout.isascii()
    assert not set(result.stdout) & set("\x1b\x7f")
    assert evil in json.loads(result.stdout)["error"]


def test_columns_without_known_names_are_suggested_with_a_preview(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"kysymys": "Why?", "vastaus": "Because.", "id": 7}])
    result = run(str(path), fails=True)
    assert "prompt = kysymys, completion = vastaus" in result.stdout
    assert "prompt  Why?" in result.stdout
    assert "answer  Because." in result.stdout
    assert "--map prompt=kysymys --map completion=vastaus" in str(result.exception)
    tree = as_json(str(path), "--map", "prompt=kysymys", "--map", "completion=vastaus")
    assert (tree["format"], tree["usable"]) == ("prompt-completion", 1)


def test_a_row_is_shown_as_the_training_sees_it(source: Path, tiny_model: Path) -> None:
    model = ("--model", str(tiny_model))
    text = run(str(source), *model, "--row", "4", "--row", "23").stdout
    assert "Row 4 as the training sees it" in text
    assert "✓ learns to stop" in text
    assert "  trained   " in text
    assert "\x1b" not in text
    (row,) = as_json(str(source), *model, "--row", "4", "--train-on", "all")["rows"]
    (sequence,) = row["sequences"]
    assert sequence["total"] == len(sequence["spans"])
    assert sequence["trained"] == sum(span["kind"] == "trained" for span in sequence["spans"])
    for number, words in (("22", "is not usable"), ("99", "There is no row 99")):
        with pytest.raises(UserError, match=words):
            run(str(source), *model, "--row", number)
    with pytest.raises(UserError, match="no tokenizer"):
        run(str(source), "--row", "4")


def test_lengths_are_drawn(source: Path, tiny_model: Path) -> None:
    text = run(str(source), "--model", str(tiny_model)).stdout
    assert "histogram" in text
    assert "━" in text


def test_a_cleaned_copy_and_its_list(source: Path, tmp_path: Path) -> None:
    before, copy = source.read_bytes(), tmp_path / "copy.jsonl"
    tree = as_json(str(source), "--write", str(copy))
    removed = [json.loads(line) for line in (tmp_path / "copy.removed.jsonl").open()]
    assert [(row["number"], row["code"]) for row in removed] == [
        (21, "duplicate"), (22, "invalid-json"), (23, "control-characters")
    ]  # fmt: skip
    assert tree["written"] == {
        "file": str(copy),
        "list": str(tmp_path / "copy.removed.jsonl"),
        "kept": 20,
        "removed": {"duplicate": 1, "invalid-json": 1, "control-characters": 1},
    }
    assert source.read_bytes() == before
    assert as_json(str(copy))["ledger"] == {"usable": 20}
    again = run(str(source), "--write", str(copy), fails=True)
    assert isinstance(again.exception, UserError)
    assert "exists already" in str(again.exception)
    assert (
        str(tmp_path / "other.jsonl")
        in run(str(source), "--write", str(tmp_path / "other.jsonl")).stdout
    )


@pytest.mark.parametrize(
    ("target", "words"),
    [("a.jsonl", "exists"), ("b.parquet", ".jsonl"), ("no/where.jsonl", "no folder")],
)
def test_a_copy_that_cannot_be_is_refused_before_the_pass(
    source: Path, tmp_path: Path, target: str, words: str
) -> None:
    before = sorted(tmp_path.iterdir())
    result = run(str(source), "--write", str(tmp_path / target), fails=True)
    assert isinstance(result.exception, UserError)
    assert words in str(result.exception)
    assert sorted(tmp_path.iterdir()) == before


def test_rows_that_are_held_out_as_well(source: Path, tmp_path: Path) -> None:
    words = "the quick brown fox jumps over the lazy dog near the bank of the river every day"
    extra = turn("Tell me a story.", words)
    train = write(tmp_path / "train.jsonl", [*source.read_text().splitlines(), extra])
    near = turn("Tell me a story.", words + " again")
    same = turn("What is number 7?", "It is the number 7.")
    held = write(tmp_path / "held.jsonl", [turn("New?", "New!"), same, near])
    copy = tmp_path / "copy.jsonl"
    tree = as_json(str(train), "--eval", str(held), "--write", str(copy))
    assert tree["leakage"] == {
        "source": str(held), "rows": 3, "usable": 3, "exact": 1, "near": 1, "numbers": [2, 3]
    }  # fmt: skip
    problem = next(one for one in tree["problems"] if one["code"] == "leakage")
    assert (problem["severity"], problem["rows"]) == ("error", [8, 24])
    assert tree["written"]["removed"]["leakage"] == 2
    assert as_json(str(copy), "--eval", str(held))["leakage"]["exact"] == 0
    said = run(str(train), "--eval", str(held)).stdout
    assert "1 are in the training data to the letter, 1 nearly (row 2, 3)" in said


def test_a_folder_with_a_test_file_is_compared_with_it(tmp_path: Path) -> None:
    rows = [turn(f"What is {n}?", f"It is {n}.") for n in range(30)]
    write(tmp_path / "train.jsonl", rows)
    write(tmp_path / "test.jsonl", [rows[3], turn("New?", "New!")])
    said = run(str(tmp_path)).stdout
    assert "rows       30, 30 usable" in said
    assert f"Held out: {tmp_path / 'test.jsonl'}" in said
    assert "1 are in the training data to the letter" in said
    tree = as_json(str(tmp_path))
    assert tree["held_out"] == [str(tmp_path / "test.jsonl")]
    assert tree["leakage"]["exact"] == 1


def test_rows_with_other_problems_may_be_dropped_too(tmp_path: Path) -> None:
    rows = [turn(f"Say {n} as JSON", json.dumps({"n": n})) for n in range(30)]
    source = write(tmp_path / "a.jsonl", [*rows, turn("Say 31 as JSON", "Sure, 31.")])
    copy = tmp_path / "copy.jsonl"
    tree = as_json(str(source), "--write", str(copy), "--drop", "inconsistent-format")
    assert tree["written"]["removed"] == {"inconsistent-format": 1}
    with pytest.raises(click.BadParameter, match="inconsistent-format"):
        run(str(source), "--drop", "nonsense")


def test_what_a_sample_leaves_open_is_said(
    source: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [turn(f"What is {n} and {n}?", f"It is {2 * n}." * (n % 5)) for n in range(1, 400)]
    source = write(tmp_path / "many.jsonl", rows)
    words = (str(source), "--model", str(tiny_model), "--max-length", "64")
    exact = as_json(*words)
    monkeypatch.setattr(inspection, "_ALL_ROWS", 100)
    monkeypatch.setattr(inspection, "SAMPLED_ROWS", 80)
    tree = as_json(*words)
    assert exact["sample"] is None
    sample = tree["sample"]
    assert 40 < sample["rows"] < 140
    assert sample["of"] == tree["usable"]
    assert sample["margin"] == pytest.approx(0.98 / sample["rows"] ** 0.5, abs=1e-4)
    assert tree["tokens"]["counted_rows"] == sample["rows"]
    off = abs(tree["tokens"]["total"] / exact["tokens"]["total"] - 1)
    assert off < 2 * tree["tokens"]["total_margin"] < 0.5
    assert as_json(*words, "--exact") == exact
    said = run(*words).stdout
    assert "95 times in 100" in said
    assert "--exact" in said
    for part in ("cut at", "★", "padding", "packed", "trained    p50"):
        assert part in said


def test_nothing_usable_is_still_one_object(tmp_path: Path) -> None:
    tree = as_json(str(tmp_path / "gone.jsonl"))
    assert "gone.jsonl" in tree["error"]
    assert (tree["rows"], tree["tokens"], tree["problems"], tree["advice"]) == (0, None, [], [])


def piped(content: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-m", "tui.cli", "inspect", "-", *words]
    return subprocess.run(command, input=content, capture_output=True, check=False)


def test_standard_input_is_a_source(source: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    done = piped(gzip.compress(source.read_bytes()), "--json", "--write", str(copy))
    assert done.returncode == 0, done.stderr
    tree = json.loads(done.stdout)
    assert (tree["source"], tree["rows"], tree["usable"]) == ("standard input", 23, 22)
    assert len(copy.read_text().splitlines()) == tree["written"]["kept"] == 20
    assert not list(Path(tempfile.gettempdir()).glob("tunedeck-*/standard input"))


def test_an_empty_standard_input_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    done = piped(b"", "--json")
    assert done.returncode == 1
    assert "Nothing came in on standard input" in json.loads(done.stdout)["error"]
    monkeypatch.setattr("os.isatty", lambda number: True)
    terminal = run("-", fails=True)
    assert "Nothing is piped" in str(terminal.exception)
