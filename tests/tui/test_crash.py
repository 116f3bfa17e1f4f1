"""A fault of our own ends the app with a sentence, and the traceback lies in a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rich.text import Text

from tui.crash import keep_traceback


def crashed(home: Path) -> Text:
    try:
        raise RuntimeError("broken \x1b[31m")
    except RuntimeError:
        return keep_traceback()


def test_the_sentence_names_the_file(tunedeck_home: Path) -> None:
    text = crashed(tunedeck_home).plain
    assert str(tunedeck_home / "crash.log") in text
    assert "\x1b" not in text
    assert "Traceback" in (tunedeck_home / "crash.log").read_text()


def test_the_app_prints_no_traceback(tunedeck_home: Path) -> None:
    code = (
        "from tui.app import TuneDeck\n"
        "def broken(self): raise RuntimeError('no reading')\n"
        "TuneDeck.read_machine = broken\n"
        "TuneDeck().run(headless=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr + done.stdout
    assert "had to close" in done.stderr + done.stdout
