"""A dialogue that asks for a path."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from core.paths import expanded
from core.text import printable
from tui.widgets.line_input import LineInput
from tui.widgets.path_input import PathInput


class AskPathScreen(ModalScreen[str]):
    """Ends with what was typed, once nothing speaks against it, or with None."""

    TITLE_WORDS: ClassVar[str]
    ABOUT: ClassVar[str]
    PLACEHOLDER: ClassVar[str]
    ENTER: ClassVar[str]
    """What Enter does."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Leave it")]

    def __init__(self, suggestion: str = "") -> None:
        super().__init__(classes="dialogue")
        self._suggestion = suggestion

    def why_not(self, typed: str) -> str:
        """Why this cannot be taken, as a sentence; empty when it can."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        with Vertical(classes="frame"):
            yield Static(Content.styled(self.TITLE_WORDS, "bold"))
            yield Static(self.ABOUT, classes="muted", markup=False)
            yield Static("")
            yield PathInput(self.PLACEHOLDER, id="asked-path")
            yield Static("", id="path-message", markup=False)
            yield Static(
                Content.assemble(
                    ("⏎", "bold $accent"), f" {self.ENTER}   ", ("tab", "bold $accent"),
                    " completes the path   ", ("Esc", "bold $accent"), " leaves it",
                ),
                classes="muted",
            )  # fmt: skip

    def on_mount(self) -> None:
        entry = self.query_one(PathInput)
        entry.value = self._suggestion
        entry.cursor_position = len(entry.value)
        entry.focus()

    @on(Input.Submitted)
    def _chosen(self, event: Input.Submitted) -> None:
        typed = event.value.strip()
        if problem := self.why_not(typed):
            self.query_one("#path-message", Static).update(Content.styled(problem, "$error"))
        else:
            self.dismiss(str(expanded(typed).absolute()) if _is_path(typed) else typed)

    @on(PathInput.Choices)
    def _choices(self, event: PathInput.Choices) -> None:
        names = "  ".join(printable(name, single_line=True) for name in event.names)
        self.query_one("#path-message", Static).update(Content.styled(names, "$text-muted"))

    @on(LineInput.Left)
    def _left(self) -> None:
        self.dismiss(None)


def _is_path(typed: str) -> bool:
    """Whether a folder is meant where this lies, or could lie; a hub id is none."""
    from core.data.sources import is_hub_id

    return bool(typed) and not is_hub_id(typed)
