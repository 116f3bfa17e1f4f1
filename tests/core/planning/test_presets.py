from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import UserError
from core.planning.planner import plan
from core.planning.presets import (
    candidate_of,
    load_preset,
    own_presets,
    presets,
    save_preset,
    with_data,
    write_recipe,
)
from core.planning.recipes import recipe_for
from core.recipe import Recipe, load_recipe
from tests.core.planning.test_planner import CHAT, machine


def test_what_ships_is_listed_by_job_and_memory() -> None:
    names = [preset.name for preset in presets()]
    assert names.index("chat-8gb") < names.index("chat-24gb") < names.index("chat-141gb")
    assert not any(preset.own for preset in presets())


def test_a_kept_recipe_comes_back_whole_and_first() -> None:
    recipe = load_preset("json-16gb")
    path = save_preset("  My Lamps! ", recipe)
    assert path.stem == "my-lamps"
    assert presets()[0].name == "my-lamps"
    assert presets()[0].own
    assert load_preset("my-lamps").training == recipe.training


@pytest.mark.parametrize("name", ["", "  ", "!!", "日本"])
def test_a_name_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="needs a name"):
        save_preset(name, load_preset("json-16gb"))


def test_a_name_that_is_taken_is_refused() -> None:
    save_preset("lamps", load_preset("json-16gb"))
    with pytest.raises(UserError, match="already"):
        save_preset("Lamps", load_preset("json-16gb"))


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    own_presets().parent.mkdir()
    own_presets().write_text("a file stands where the folder should be")
    with pytest.raises(UserError, match="Cannot keep the preset"):
        save_preset("lamps", load_preset("json-16gb"))


def test_a_candidate_gives_its_recipe_back() -> None:
    """Every preset priced as a candidate trains the way the preset says."""
    basis = plan(machine(141), CHAT).basis
    assert basis is not None
    for name in ("chat-24gb", "code-80gb", "pretrain-8gb"):
        recipe = load_preset(name)
        again = recipe_for(candidate_of(recipe, basis), name="x", sources=["y"], rows=1000)
        for key in ("rank", "alpha", "dropout", "target_modules", "name"):
            assert getattr(again.method, key) == getattr(recipe.method, key)
        for key in ("epochs", "learning_rate", "micro_batch", "gradient_accumulation", "optimizer"):
            assert getattr(again.training, key) == getattr(recipe.training, key)
        assert again.data.max_length == recipe.data.max_length


def test_an_open_optimiser_is_priced_as_the_trainer_will_choose() -> None:
    basis = plan(machine(141), CHAT).basis
    assert basis is not None
    recipe = load_preset("chat-8gb")
    recipe.method.name = "full"
    recipe.training.optimizer = "auto"
    roomy = candidate_of(recipe, basis)
    assert roomy.optimizer == "adamw"
    tight = candidate_of(recipe, replace(basis, free_bytes=roomy.prediction.high - 1))
    assert tight.optimizer == "paged-adamw-8bit"
    assert tight.fits
    recipe.training.optimizer = "adamw"
    assert not candidate_of(recipe, tight.basis).fits


def test_a_preset_takes_data_name_and_device_from_the_plan() -> None:
    tree = {
        "name": "mine", "model": "m",
        "data": {"train": ["a"], "eval": ["b"], "mapping": {"prompt": "q"}, "eval_fraction": 0.1},
        "hardware": {"gpu": "1", "dollars_per_hour": 2.0},
    }  # fmt: skip
    like, preset = Recipe.model_validate(tree), load_preset("classify-12gb")
    made = with_data(preset, like)
    assert (made.name, made.data.train, made.data.eval) == ("mine", ["a"], ["b"])
    assert made.data.mapping == {"prompt": "q"}
    assert made.hardware == like.hardware
    assert made.model == preset.model
    assert made.data.max_length == preset.data.max_length


def test_names_of_layers_survive() -> None:
    basis = plan(machine(24), CHAT).basis
    assert basis is not None
    preset = load_preset("chat-24gb")
    preset.method.target_modules = ["q_proj", "v_proj"]
    candidate = candidate_of(preset, basis)
    assert candidate.hyper.targets == ("q_proj", "v_proj")
    whole = candidate_of(load_preset("chat-24gb"), basis)
    assert candidate.prediction.parts.adapter < whole.prediction.parts.adapter


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "name of a file"),
        ("/", "name of a file"),
        ("~nobody-of-that-name/x.yaml", "no folder ~nobody-of-that-name"),
        ("a" * 300, "name too long"),
        ("no/such/folder/x.yaml", "no folder no/such/folder"),
        (".", "name of a file"),
        ("..", "exists already"),
    ],
)
def test_a_recipe_is_not_written_where_it_cannot_be(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        write_recipe(name, load_preset("json-16gb"))


def test_a_name_that_no_disk_takes_is_said(tunedeck_home: Path) -> None:
    with pytest.raises(UserError, match="name too long"):
        save_preset("a" * 300, load_preset("json-16gb"))


def test_a_written_recipe_comes_back(tmp_path: Path) -> None:
    recipe = load_preset("json-16gb")
    path = write_recipe(str(tmp_path / "mine.yaml"), recipe)
    assert load_recipe(path).method == recipe.method
    with pytest.raises(UserError, match="exists already"):
        write_recipe(str(path), recipe)
