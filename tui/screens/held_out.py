"""Which rows are held out: what of them is in the training rows too?"""

from __future__ import annotations

from core.errors import UserError
from core.text import printable
from tui.screens.ask_path import AskPathScreen


class HeldOutScreen(AskPathScreen):
    """Ends with a source, with an empty text (none is held out), or with None (as it was)."""

    TITLE_WORDS = "Rows of your own to evaluate on"
    ABOUT = (
        "They are held out of the training, and compared with the rows that are open: a row that"
        " is in both, to the letter or nearly, makes the score one of memory. Without any, a part"
        " of the open rows is held out."
    )
    PLACEHOLDER = "a file, a folder, or a hub id; nothing for none"
    ENTER = "compares"

    def why_not(self, typed: str) -> str:
        from core.data.sources import check_source

        try:
            if typed:
                check_source(typed)
        except UserError as error:
            return f"✗ {printable(str(error), single_line=True)}"
        return ""
