"""The exact recipe of a run: read it, edit it, keep it as a preset or a file, start it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from core.errors import UserError
from core.planning.candidates import Candidate
from core.planning.presets import save_preset, write_recipe
from core.recipe import Recipe, parse_recipe
from core.text import printable
from core.yaml_text import read_yaml
from tui.widgets.line_input import LineInput
from tui.widgets.plan_lines import span_line, verdict
from tui.widgets.row_pane import Pane
from tui.widgets.text_editor import TextEditor

MOST_SPAN = 28


@dataclass(frozen=True, slots=True)
class Outcome:
    """The recipe to start; whether to go and watch it, and whether it waits for its turn."""

    recipe: Recipe
    watch: bool = True
    queued: bool = False


class RecipeScreen(ModalScreen[Outcome]):
    """Ends with the recipe to start, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "Start"),
        Binding("d", "start(False)", "Start, stay here"),
        Binding("a", "start(False,True)", "Add to the queue"),
        Binding("e", "edit", "Edit"),
        Binding("p", "keep", "Keep as a preset"),
        Binding("w", "write", "Write to a file"),
        Binding("ctrl+s", "apply", "Take the edit", priority=True),
        Binding("escape", "back", "Back"),
        Binding("y,q", "back", "Back", show=False),
    ]
    READING = (
        ("s", "start"), ("d", "and stay"), ("a", "queue"), ("e", "edit"),
        ("p", "preset"), ("w", "file"), ("Esc", "back"),
    )  # fmt: skip
    EDITING = (("^s", "take the edit"), ("Esc", "drop it"))

    def __init__(self, recipe: Recipe, price: Callable[[Recipe], Candidate | None]) -> None:
        super().__init__(classes="dialogue")
        self._recipe, self._price = recipe, price
        self._keeping = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="frame"):
            yield Static(Content.styled("Recipe", "bold"))
            with Pane(id="reader"):
                yield Static(highlighted(self._recipe.to_yaml()), id="yaml")
            yield TextEditor(id="editor")
            yield LineInput("a file to write the recipe to", id="file")
            yield Static("", id="message")
            yield Static("", id="recipe-keys")

    def on_mount(self) -> None:
        self._edit(False)

    # Editing

    @property
    def editing(self) -> bool:
        """Whether the text can be changed."""
        return bool(self.query_one(TextEditor).display)

    def _edit(self, editing: bool) -> None:
        self.query_one(TextEditor).display = editing
        self.query_one("#reader").display = not editing
        self.query_one("#file").display = False
        if editing:
            self._say("")
        else:
            self._say_whether_it_fits()
        keys = self.EDITING if editing else self.READING
        parts = [p for key, words in keys for p in ((key, "bold $accent"), f" {words}  ")]
        self.query_one("#recipe-keys", Static).update(Content.assemble(*parts))
        self.query_one("#editor" if editing else "#reader").focus()

    def action_edit(self) -> None:
        self.query_one(TextEditor).text = self._recipe.to_yaml()
        self._edit(True)

    def action_apply(self) -> None:
        if not self.editing:
            return
        try:
            self._recipe = recipe_from(self.query_one(TextEditor).text)
        except UserError as error:
            self._say(str(error))
            return
        self.query_one("#yaml", Static).update(highlighted(self._recipe.to_yaml()))
        self._edit(False)

    def _say_whether_it_fits(self) -> None:
        """As it stands now, on the memory that is free now."""
        candidate = self._price(self._recipe)
        message = Content("")
        if candidate is not None:
            message = verdict(candidate) + Content("  ") + span_line(candidate, MOST_SPAN)
        self.query_one("#message", Static).update(message)

    def _say(self, text: str, style: str = "$error") -> None:
        message = Content.styled(printable(text), style) if text else Content("")
        self.query_one("#message", Static).update(message)

    # Leaving, starting, writing

    def action_back(self) -> None:
        if self.editing:
            self._edit(False)
        else:
            self.dismiss(None)

    def action_start(self, watch: bool = True, queued: bool = False) -> None:
        self.dismiss(Outcome(self._recipe, watch, queued))

    def action_write(self) -> None:
        slug = re.sub(r"[^A-Za-z0-9_-]+", "-", self._recipe.name)
        self._ask_for("a file to write the recipe to", str(Path.cwd() / f"{slug}.yaml"))

    def action_keep(self) -> None:
        self._ask_for("a name for the preset", "", keeping=True)

    def _ask_for(self, what: str, value: str, *, keeping: bool = False) -> None:
        self._keeping = keeping
        entry = self.query_one("#file", LineInput)
        entry.placeholder, entry.value, entry.display = what, value, True
        entry.focus()

    @on(LineInput.Left)
    def _write_left(self) -> None:
        self._edit(False)

    @on(Input.Submitted, "#file")
    def _answered(self, event: Input.Submitted) -> None:
        if self._keeping:
            self._keep(event.value.strip())
        else:
            self._write(event.value.strip())

    def _keep(self, name: str) -> None:
        try:
            path = save_preset(name, self._recipe)
        except UserError as error:
            self._say(str(error))
            return
        self._edit(False)
        listed = "p on Plan and `tunedeck plan --presets` list it"
        self._say(f"Kept as {path.stem}: {listed}.", "$success")

    def _write(self, name: str) -> None:
        try:
            path = write_recipe(name, self._recipe)
        except UserError as error:
            self._say(str(error))
            return
        self._edit(False)
        self._say(f"Written. tunedeck train {path} starts it.", "$success")


def recipe_from(text: str) -> Recipe:
    """The recipe that a text is. UserError in one sentence when it is none."""
    return parse_recipe(read_yaml(text, "This is not YAML"), "This recipe")


def highlighted(text: str) -> Content:
    """YAML with its keys told apart from its values."""
    lines = []
    for line in printable(text).split("\n"):
        found = re.match(r"(\s*(?:- )?)([\w-]+:)(.*)", line)
        if found is None:
            lines.append(Content(line))
        else:
            indent, key, value = found.groups()
            lines.append(Content.assemble(indent, (key, "$primary"), value))
    return Content("\n").join(lines)
