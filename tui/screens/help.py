"""The keys that work right now, from the bindings themselves."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen, Screen
from textual.widgets import Static

from tui.widgets.row_pane import Pane

HIDDEN = (
    "scroll_left", "scroll_right", "page_left", "page_right", "screen.copy_text",
    "app.focus_next", "app.focus_previous",
)  # fmt: skip
"""Textual's own, which do nothing that one would look for here."""


class HelpScreen(ModalScreen[None]):
    """A list of keys; any of `?`, Esc, Enter or `q` closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,enter,q", "dismiss", "Close")
    ]

    def __init__(self, subject: Screen[Any]) -> None:
        super().__init__(classes="dialogue")
        self._lines = key_lines(subject)

    def compose(self) -> ComposeResult:
        with Vertical(classes="frame"):
            yield Static(Content.styled("Keys that work here", "bold"))
            with Pane(id="key-list"):
                yield Static(Content("\n").join(self._lines))
            keys = Content.assemble(("Esc", "bold $accent"), " closes   ", ("↑↓", "bold $accent"))
            yield Static(keys + Content(" scroll"), classes="muted")


def key_lines(subject: Screen[Any]) -> list[Content]:
    """A line for each action with all its keys: the place's first, then of what has the focus,
    then the app's."""
    keys: dict[tuple[int, str], tuple[ActiveBinding, list[str]]] = {}
    for active in subject.active_bindings.values():
        binding = active.binding
        if not binding.description or binding.system or binding.action in HIDDEN:
            continue
        rank = 0 if active.node is subject else 2 if active.node is subject.app else 1
        entry = keys.setdefault((rank, binding.action), (active, []))
        shown = subject.app.get_key_display(binding)
        if shown not in entry[1]:
            entry[1].append(shown)
    ordered = sorted(keys.items(), key=lambda item: item[0][0])
    return [_line(active, shown) for _, (active, shown) in ordered]


def _line(active: ActiveBinding, shown: list[str]) -> Content:
    text = active.binding.tooltip or active.binding.description
    style = "bold $accent" if active.enabled else "$text-muted"
    return Content.assemble(
        (f"{'  '.join(shown):>12}", style), ("   " + text, "" if active.enabled else "$text-muted")
    )
