"""The earlier conversations of a run, to load one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from core.chat.transcript import TranscriptSummary, list_transcripts
from core.errors import UserError
from core.text import clip, printable


class TranscriptsScreen(ModalScreen[Path | None]):
    """Ends with the chosen transcript's path, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", "Close")]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        try:
            self._found = list_transcripts(folder)
        except UserError:
            self._found = []

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content.styled("Earlier conversations", "bold"))
            if self._found:
                yield OptionList(*(Option(_line(one)) for one in self._found))
            else:
                yield Static("There are none yet: each is kept from its first question on.")
            yield Static(Content.styled("⏎ load   esc close", "$foreground-muted"))

    def on_option_list_option_selected(self, message: OptionList.OptionSelected) -> None:
        self.dismiss(self._found[message.option_index].path)


def _line(summary: TranscriptSummary) -> Content:
    when = time.strftime("%d %b %H:%M", time.localtime(summary.created))
    first = clip(printable(summary.first, single_line=True), 60)
    return Content.assemble((f"{when}  {summary.questions:>3} ×  ", "$foreground-muted"), first)
