"""Opening the app, or saying in a sentence why this terminal cannot show it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from core.errors import UserError

if TYPE_CHECKING:
    from tui.deck import Deck


def has_terminal() -> bool:
    """Whether there is a terminal on all ends that can show the app, which draws on stderr."""
    ends = (sys.stdin, sys.stdout, sys.stderr)
    return all(end.isatty() for end in ends) and os.environ.get("TERM") != "dumb"


def open_app(deck: Deck | None = None, start: str = "home") -> None:
    """Run the app until it is left, then say which runs go on."""
    if not has_terminal():
        raise UserError(
            "The app needs a terminal, and there is none here that can show it.",
            "`tunedeck --help` lists the commands that work without one.",
        )
    if "SSH_CONNECTION" in os.environ:
        _spare_the_link()
    from tui.app import TuneDeck

    app = TuneDeck(deck, start)
    context = click.get_current_context(silent=True)
    app.debug_wanted = bool(context and context.find_root().params.get("debug"))
    app.run()
    _say_what_goes_on()
    if app.return_code:
        sys.exit(app.return_code)


def _spare_the_link() -> None:
    """Fewer frames over SSH; Textual reads these once, when it is imported."""
    os.environ.setdefault("TEXTUAL_FPS", "15")
    os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    os.environ.setdefault("TEXTUAL_SMOOTH_SCROLL", "0")


def _say_what_goes_on() -> None:
    from core.runs.supervisor import list_runs

    for summary in list_runs():
        if summary.state.alive:
            click.echo(f"{summary.id} goes on. Come back with: tunedeck attach {summary.id}")
