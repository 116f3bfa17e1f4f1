"""From a thread back to the event loop."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from textual.css.query import NoMatches
from textual.widget import Widget
from textual.worker import get_current_worker


def hand_over(widget: Widget, callback: Callable[..., object], *findings: object) -> None:
    """Call back on the event loop with what a worker thread has found out.

    Nothing happens when the worker was overtaken, or when its widget has gone meanwhile.
    """
    if not get_current_worker().is_cancelled:
        widget.app.call_from_thread(_deliver, widget, callback, findings)


def _deliver(widget: Widget, callback: Callable[..., object], findings: tuple[object, ...]) -> None:
    if widget.is_attached and widget.children:
        with suppress(NoMatches):  # its children go first when a screen is taken down
            callback(*findings)
