"""Where a cleaned copy of the rows shall be written."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from core.text import printable
from tui.widgets.line_input import LineInput
from tui.widgets.path_input import PathInput

ABOUT = (
    "Rows that cannot be trained on are left out, and so are exact repetitions, refusals and rows"
    " that hold secrets, broken characters or an empty answer. A second file lists every row left"
    " out, and why. The original stays as it is."
)


class SaveCopyScreen(ModalScreen[Path]):
    """Ends with a path that is free, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Leave it")]

    def __init__(self, suggestion: Path) -> None:
        super().__init__(classes="dialogue")
        self._suggestion = suggestion

    def compose(self) -> ComposeResult:
        with Vertical(classes="frame"):
            yield Static(Content.styled("Save a cleaned copy", "bold"))
            yield Static(ABOUT, classes="muted")
            yield Static("")
            yield PathInput("a file to write", id="copy-path")
            yield Static("", id="copy-message", markup=False)
            yield Static(
                Content.assemble(
                    ("⏎", "bold $accent"), " writes it   ", ("tab", "bold $accent"),
                    " completes the path   ", ("Esc", "bold $accent"), " leaves it",
                ),
                classes="muted",
            )  # fmt: skip

    def on_mount(self) -> None:
        entry = self.query_one(PathInput)
        entry.value = str(self._suggestion)
        entry.cursor_position = len(entry.value)
        entry.focus()

    @on(Input.Submitted)
    def _chosen(self, event: Input.Submitted) -> None:
        path = Path(event.value.strip()).expanduser()
        if problem := why_not_there(path):
            self.query_one("#copy-message", Static).update(Content.styled(problem, "$error"))
        else:
            self.dismiss(path.absolute())

    @on(PathInput.Choices)
    def _choices(self, event: PathInput.Choices) -> None:
        names = "  ".join(printable(name, single_line=True) for name in event.names)
        self.query_one("#copy-message", Static).update(Content.styled(names, "$text-muted"))

    @on(LineInput.Left)
    def _left(self) -> None:
        self.dismiss(None)


def why_not_there(path: Path) -> str:
    """Why a copy cannot be written to this path, as a sentence; empty when it can."""
    name = printable(str(path), single_line=True)
    if not path.name:
        return "Type the name of a file."
    if path.exists():
        kind = "is a folder" if path.is_dir() else "exists already, and is not overwritten"
        return f"✗ {name} {kind}. Type another name."
    if not path.absolute().parent.is_dir():
        return f"✗ There is no folder {printable(str(path.parent), single_line=True)}."
    return ""


def suggested_copy(source: str) -> Path:
    """A free name beside a file; in the working directory for a folder, a glob or a hub id."""
    path = Path(source)
    folder = path.parent if path.is_file() else Path.cwd()
    stem = path.name.split(".")[0] or "rows"
    numbers = ("", *(f"-{number}" for number in range(2, 1000)))
    names = (folder / f"{stem}.clean{number}.jsonl" for number in numbers)
    return next((name for name in names if not name.exists()), folder / f"{stem}.clean.jsonl")
