"""The question before a run is stopped."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from core.runs.watch import RunView
from core.text import printable


class StopScreen(ModalScreen[str]):
    """Ends with `gracefully`, `now` or None: nothing is stopped."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("enter,y", "dismiss('gracefully')", "Stop gracefully"),
        ("exclamation_mark", "dismiss('now')", "End it at once"),
        ("escape,n,q", "dismiss(None)", "Let it run"),
    ]

    def __init__(self, view: RunView) -> None:
        super().__init__()
        self._view = view

    def compose(self) -> ComposeResult:
        history = self._view.history
        step = f" at step {history.step:,}" if history.step else ""
        lines = [
            Content.styled(f"Stop {printable(self._view.name, single_line=True)}{step}?", "bold"),
            Content(""),
            _choice("Enter", "stop: it writes a checkpoint first and can be resumed"),
            _choice("!", "end it at once, without a checkpoint"),
            _choice("Esc", "let it run"),
        ]
        if self._view.state.phase == "stopping":
            lines[2] = _choice("Enter", "it is stopping already; wait for the checkpoint")
        with Vertical():
            yield Static(Content("\n").join(lines))


def _choice(key: str, words: str) -> Content:
    return Content.assemble((f"{key:>6}", "bold $accent"), f"  {words}")
