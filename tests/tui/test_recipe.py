"""A recipe with names that attack the terminal: drawn, never obeyed, and kept as they are."""

from __future__ import annotations

import shlex
from pathlib import Path

from textual.widgets import TextArea

from core.recipe import Recipe, load_recipe
from core.text import printable
from tests.tui.conftest import Open, sees, shown, until
from tui.screens.recipe import Outcome, RecipeScreen, recipe_from
from tui.widgets.column_mapping import parse_mapping

EVIL = [
    "\x1b]0;owned\x07", "\x1b[2J", "a\u202eb", "\u2066c\u2069", "\x9b31m", "\u200bd", "\ufeffe",
    "\u2028f", "g\x85h", "i\x00j", "k\rl", "m\x7f", "\U000e0041n", "\ud83d", "[bold]o[/]",
    "p: q # r", "'\"", "- s", "t\tu", "v\nw", " x ",
]  # fmt: skip
"""Names of columns."""


def recipe_for(column: str) -> Recipe:
    data = {"train": ["rows.jsonl"], "mapping": {"prompt": column, "completion": f"z{column}"}}
    return Recipe.model_validate({"model": "org/model", "data": data})


def test_whatever_a_column_is_called_it_comes_back(tmp_path: Path) -> None:
    for name in EVIL:
        recipe = recipe_for(name)
        text = recipe.to_yaml()
        assert is_safe(text), name
        assert recipe_from(text) == recipe, name
        (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
        assert load_recipe(tmp_path / "recipe.yaml").data.mapping == recipe.data.mapping, name
        assert parse_mapping(f"prompt={shlex.quote(name)}") == {"prompt": name}


async def test_the_editor_draws_what_a_terminal_would_obey(opened: Open, tmp_path: Path) -> None:
    names = [name for name in EVIL if "\ud83d" not in name]
    data = {"train": names, "mapping": {"prompt": names[0], "completion": names[2]}}
    recipe = Recipe.model_validate({"model": "org/model", "data": data})
    found: list[Outcome | None] = []
    async with opened((100, 60)) as pilot:
        await pilot.app.push_screen(RecipeScreen(recipe, lambda recipe: None), found.append)
        await sees(pilot, "mapping:")
        assert is_safe(shown(pilot))
        await pilot.press("e")
        editor = pilot.app.screen.query_one("#editor", TextArea)
        await sees(pilot, "a\\U0000202Eb")
        before = editor.text
        editor.text = f"# \u202e\x1b[2J\x9b\u2066\n{before}"
        await sees(pilot, "# �␛[2J��")
        assert is_safe(shown(pilot))
        assert "\u202e" in editor.text
        editor.text = before
        await pilot.press("ctrl+s", "w")
        entry = pilot.app.screen.query_one("#file")
        entry.value = str(tmp_path / "kept\u202e.yaml")  # type: ignore[attr-defined]
        await pilot.press("enter")
        await sees(pilot, "Written.")
        assert is_safe(shown(pilot))
        await pilot.press("s")
        await until(pilot, lambda: found)
    assert found[0] is not None
    assert found[0].recipe == recipe
    assert load_recipe(tmp_path / "kept\u202e.yaml").data.mapping == recipe.data.mapping


def is_safe(text: str) -> bool:
    """Whether a terminal would show every character and obey none."""
    return all(char == "\n" or printable(char) == char for char in text)
