"""What the app says when it has to end because of a fault of its own."""

from __future__ import annotations

import sys
import time
import traceback

from rich.text import Text

from core.paths import home
from core.text import printable


def keep_traceback() -> Text:
    """Write the exception at hand to a file, and give the sentence that the user reads."""
    error = sys.exc_info()[1]
    path = home() / "crash.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(time.strftime("%Y-%m-%d %H:%M:%S\n") + traceback.format_exc() + "\n")
        where = f"The details are in {path}"
    except OSError:
        where = "`--debug` shows where"
    what = printable(f"{type(error).__name__}: {error}", single_line=True)
    return Text(
        f"TuneDeck had to close: {what}. Runs at work go on. {where}; please report it.\n",
        no_wrap=False,
    )
