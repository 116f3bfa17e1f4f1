"""Every proposed value says where it is from."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import pytest

from core.methods import METHODS, MethodName
from core.models.catalogue import load_catalogue
from core.objectives import ObjectiveName
from core.planning.candidates import Candidate
from core.planning.planner import plan
from core.planning.recipes import recipe_for, with_sources
from core.planning.retuning import retune
from core.planning.search import start_at
from core.planning.settings import priced
from core.planning.sources import BY_HAND, sources
from core.recipe import load_recipe
from tests.core.planning.test_planner import CHAT, found, machine

NUMBER = re.compile(r"\b\de-\d\b")


@cache
def starred() -> Candidate:
    return found(plan(machine(24), CHAT), "Qwen/Qwen3-8B", "qlora")


def cited(text: str) -> tuple[float, float]:
    """The least and the largest of the numbers in a source."""
    numbers = [float(each) for each in NUMBER.findall(text)]
    return min(numbers), max(numbers)


@pytest.mark.parametrize("method", get_args(MethodName))
@pytest.mark.parametrize("objective", get_args(ObjectiveName))
def test_every_value_has_one_and_a_cited_rate_is_the_proposed_one(
    method: MethodName, objective: ObjectiveName
) -> None:
    basis = replace(starred().basis, objective=objective)
    for card in load_catalogue():
        proposed = priced(start_at(card, method, basis, 512, "auto"))
        texts = sources(proposed)
        assert all(texts.values())
        assert BY_HAND not in texts.values()
        assert ("rank" in texts) == ("rank" in METHODS[method].knobs)
        rate = texts["learning_rate"]
        if not rate.startswith("own choice"):
            low, high = cited(rate)
            assert low <= proposed.hyper.learning_rate <= high, (card.id, rate)


def test_what_was_turned_by_hand_says_so() -> None:
    star = starred()
    turned = retune(star, learning_rate=5e-4, rank=64, epochs=4)
    changed = {key for key, text in sources(turned).items() if text == BY_HAND}
    assert changed == {"learning_rate", "rank", "alpha", "epochs"}
    batch = retune(star, gradient_accumulation=4 * star.gradient_accumulation)
    assert sources(batch)["batch"] == BY_HAND


def test_a_recipe_with_its_sources_is_the_same_recipe(tmp_path: Path) -> None:
    star = starred()
    recipe = recipe_for(star, name="chat", sources=["/data/rows.jsonl"], rows=1000)
    path = tmp_path / "recipe.yaml"
    path.write_text(with_sources(recipe, sources(star)), encoding="utf-8")
    assert load_recipe(path) == recipe
    assert "#   learning_rate: QLoRA, arXiv 2305.14314: 2e-4" in path.read_text(encoding="utf-8")
