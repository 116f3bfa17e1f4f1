"""What the list of runs says about a recipe, also of one that is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.runs.brief import Brief, brief, bytes_on_disk
from core.runs.directory import RunDirectory


def run_with(folder: Path, recipe: str) -> RunDirectory:
    folder.mkdir()
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
    return RunDirectory(folder)


def test_a_brief_names_model_and_method(tmp_path: Path) -> None:
    recipe = "name: mine\nmodel:\n  id: org/model\nmethod:\n  name: qlora\n"
    assert brief(run_with(tmp_path / "a", recipe)) == Brief("mine", "org/model", "qlora")


@pytest.mark.parametrize("recipe", ["", "[", "- 1", "model: text\nmethod: 3\n", "\x00"])
def test_a_broken_recipe_is_blank_not_an_error(tmp_path: Path, recipe: str) -> None:
    assert brief(run_with(tmp_path / "a", recipe)).method == ""


def test_a_recipe_that_is_gone_is_blank(tmp_path: Path) -> None:
    assert brief(RunDirectory(tmp_path / "none")) == Brief("", "", "")


def test_the_bytes_on_disk_count_every_file(tmp_path: Path) -> None:
    run = run_with(tmp_path / "a", "name: x\n")
    before = bytes_on_disk(run)
    (run.path / "deep").mkdir()
    (run.path / "deep" / "weights").write_bytes(b"x" * 1_000_000)
    assert bytes_on_disk(run) - before >= 1_000_000
