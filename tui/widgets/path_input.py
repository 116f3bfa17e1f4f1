"""A line to type a path in, which Tab completes as a shell does."""

from __future__ import annotations

import os
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from core.data.files import KINDS, PACKED
from tui.widgets.line_input import LineInput

DATA_ENDINGS = (*KINDS, *(kind + packed for kind in KINDS for packed in PACKED))
"""What the names of files that may hold rows end in."""
SHOWN_CHOICES = 12


class PathInput(LineInput):
    """Tab completes the path as far as it is unambiguous, and shows what it could become."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete", key_display="tab"),
    ]

    class Choices(Message):
        """What the typed beginning could become; empty when there is nothing to choose from."""

        def __init__(self, names: list[str]) -> None:
            super().__init__()
            self.names = names

    def action_complete(self) -> None:
        completed, names = complete_path(self.value)
        if completed == self.value and not names:
            self.screen.focus_next()
            return
        self.value = completed
        self.cursor_position = len(completed)
        self.post_message(self.Choices(names if len(names) > 1 else []))

    def action_leave(self) -> None:
        self.post_message(self.Choices([]))
        super().action_leave()


def complete_path(typed: str) -> tuple[str, list[str]]:
    """The path as far as it is certain, and the names it could go on with.

    Only folders and files that may hold rows count, unless the name is typed exactly.
    """
    folder, beginning = os.path.split(typed)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:
            found = sorted(
                entry.name + "/" if entry.is_dir() else entry.name
                for entry in entries
                if entry.name.startswith(beginning)
                and (beginning.startswith(".") or not entry.name.startswith("."))
                and (entry.is_dir() or entry.name.lower().endswith(DATA_ENDINGS))
            )
    except OSError:
        return typed, []
    if typed == "~":
        return "~/", []
    if not found:
        return typed, []
    certain = os.path.commonprefix(found)  # of names, letter by letter  # noqa: RUF071
    return os.path.join(folder, certain), found[:SHOWN_CHOICES]
