"""The recipe: what is written is what is read, and a mistake is one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import UserError
from core.recipe import Recipe, load_recipe, parse_recipe

MINIMAL = {"model": "org/name", "data": "rows.jsonl"}


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_survives_its_own_yaml(tmp_path: Path) -> None:
    recipe = parse_recipe(MINIMAL, "here").with_changes(["training.learning_rate=2e-4"])
    assert load_recipe(write(tmp_path, recipe.to_yaml())) == recipe


def test_paths_are_taken_from_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    recipe = load_recipe(write(tmp_path, "model: org/name\ndata: rows.jsonl\n"))
    assert recipe.data.train == [str(tmp_path / "rows.jsonl")]
    assert recipe.model.id == "org/name"


def test_settings_are_changed_by_key() -> None:
    changed = parse_recipe(MINIMAL, "here").with_changes(
        ["method.rank=8", "training.learning_rate=1e-3", "name=second"]
    )
    assert (changed.method.rank, changed.training.learning_rate) == (8, 1e-3)
    assert changed.name == "second"


def test_a_method_brings_its_usual_learning_rate() -> None:
    recipe = parse_recipe(MINIMAL, "here")
    assert recipe.training.learning_rate == 2e-4
    prompt = recipe.with_changes(["method.name=prompt", "method.virtual_tokens=8"])
    assert prompt.training.learning_rate == 3e-2
    own = recipe.with_changes(["training.learning_rate=1e-3"]).with_changes(["method.name=full"])
    assert own.training.learning_rate == 1e-3
    assert parse_recipe({**MINIMAL, "method": "full"}, "here").training.learning_rate == 2e-5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "no recipe"),
        ("model: x\n  data: [", "not YAML"),
        ("model: x\n", "data is missing"),
        ("model: x\ndata: y\nmethd: {}\n", "methd is not a known key"),
        ("model: x\ndata: y\nmethod: {rank: 0}\n", "method.rank"),
        ("model: x\ndata: y\nmethod: {name: lorra}\n", "method.name"),
        ("model: x\ndata: y\nmethod: {name: [lora]}\n", "method.name"),
        ("model: x\ndata: y\nmethod: {name: pissa, bits: 4}\n", "PiSSA trains on a base of 16"),
        ("model: x\ndata: y\nmethod: 3\n", "method"),
        ("model: x\ndata: y\ntraining: {learning_rate: -1}\n", "training.learning_rate"),
        ("model: x\ndata: y\ntraining: {epochs: .inf}\n", "training.epochs.*finite"),
        pytest.param("[" * 1000 + "]" * 1000, "nested too deeply", id="deep"),
        ("name: 2020-13-45", "not YAML: month"),
        pytest.param(f"name: {'9' * 5000}", "not YAML: exceeds the limit", id="long number"),
        ("model: x\ndata: y\nmethod: {rank: 8, rank: 16}\n", r"rank is there twice \(line 3\)"),
        ("name: a\x00b", "not YAML: the character at 8 cannot be there"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        load_recipe(write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", ["rank", "method.rank=zero", "nothing.there=1", "name.x=1"])
def test_a_bad_change_is_refused(change: str) -> None:
    with pytest.raises(UserError):
        parse_recipe(MINIMAL, "here").with_changes([change])


def test_missing_file_and_wrong_bytes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="UTF-8"):
        load_recipe(binary)


def test_unknown_assignment_is_checked() -> None:
    recipe = Recipe.model_validate(MINIMAL)
    with pytest.raises(ValueError, match="rank"):
        recipe.method.rank = 0
