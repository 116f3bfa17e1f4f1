"""What goes wrong for everybody once: one sentence each, no traceback, nothing half-made."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.e2e.conftest import Run, one_object


def says_one_sentence(done: object, *words: str) -> None:
    stderr: str = done.stderr  # type: ignore[attr-defined]
    assert "Traceback" not in stderr
    assert done.returncode == 1, stderr  # type: ignore[attr-defined]
    assert len(stderr.strip().splitlines()) == 1, stderr
    for word in words:
        assert word.lower() in stderr.lower(), stderr


def recipe_text(model: object, rows: object) -> str:
    return json.dumps({"model": str(model), "data": str(rows)})


@pytest.mark.parametrize(
    "words",
    [
        ["inspect", "nowhere.jsonl"],
        ["train", "nowhere.yaml"],
        ["attach", "nothing"],
        ["stop", "nothing"],
        ["resume", "nothing"],
        ["chat", "nothing", "--prompt", "hi"],
        ["export", "nothing", "--to", "merged"],
        ["evaluate", "nothing"],
    ],
    ids=lambda words: words[0],
)
def test_what_is_not_there(tunedeck: Run, words: list[str]) -> None:
    says_one_sentence(tunedeck(*words), words[1])


def test_wrong_usage_is_2(tunedeck: Run) -> None:
    for words in (["nonsense"], ["train"], ["export", "x", "--to", "gold"], ["inspect"]):
        done = tunedeck(*words)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr


def test_the_app_without_a_terminal(tunedeck: Run) -> None:
    says_one_sentence(tunedeck(), "terminal")


def test_a_model_that_is_not_there(
    tunedeck: Run, tmp_path: Path, tiny_rows: Path, home: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(tmp_path / "no-model", tiny_rows))
    done = tunedeck("train", str(path), "--plain")
    assert done.returncode == 1
    assert "no-model" in done.stderr
    assert "Traceback" not in done.stderr


def test_rows_that_are_not_there_start_no_run(
    tunedeck: Run, tmp_path: Path, tiny_model: Path, home: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(tiny_model, "gone.jsonl"))
    says_one_sentence(tunedeck("train", str(path)), "gone.jsonl")
    assert not list((home / "runs").glob("*")) if home.exists() else True


def test_unreadable_file(tunedeck: Run, tmp_path: Path) -> None:
    folder = tmp_path / "rows.jsonl"
    folder.mkdir()
    says_one_sentence(tunedeck("inspect", str(folder)), "rows.jsonl")


def test_a_home_that_cannot_be_written(tmp_path: Path, tiny_model: Path, tiny_rows: Path) -> None:
    from tests.e2e.conftest import run_tunedeck

    home = tmp_path / "a-file"
    home.write_text("in the way")
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(tiny_model, tiny_rows))
    says_one_sentence(run_tunedeck(home, "train", str(path)), "a-file")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_stdout_that_is_full(tunedeck: Run) -> None:
    import subprocess
    import sys

    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "tui.cli", "runs", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_json_carries_the_reason(tunedeck: Run, tmp_path: Path) -> None:
    report = one_object(tunedeck("inspect", str(tmp_path / "gone.jsonl"), "--json"))
    assert "gone.jsonl" in report["error"]
    assert report["rows"] == 0
