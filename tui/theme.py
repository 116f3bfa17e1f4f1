"""All colours of the app. One accent; the rest are greys and the three that carry a warning."""

from __future__ import annotations

import os
from dataclasses import replace

from textual.theme import BUILTIN_THEMES, Theme

ON_CURSOR = {
    "accent": "#ffaf5f",
    "primary": "#87d7ff",
    "success": "#afd787",
    "warning": "#ffd787",
    "error": "#ff8787",
    "text-muted": "#bcbcbc",
    "foreground-muted": "#bcbcbc",
    "foreground-disabled": "#bcbcbc",
    "border": "#8a8a8a",
}
"""What these colours are on the ground of a highlighted row, which is too light for the usual."""


def _on_cursor(colours: dict[str, str]) -> dict[str, str]:
    return {f"cursor-{name}": colour for name, colour in colours.items()}


DECK = Theme(
    name="deck",
    primary="#5fafd7",
    secondary="#5f87af",
    accent="#ffaf5f",
    foreground="#d0d0d0",
    background="#121212",
    surface="#1c1c1c",
    panel="#262626",
    success="#87af5f",
    warning="#d7af5f",
    error="#d75f5f",
    dark=True,
    variables={
        "border": "#444444",
        "border-blurred": "#303030",
        "footer-background": "#1c1c1c",
        "footer-key-foreground": "#ffaf5f",
        "footer-description-foreground": "#9e9e9e",
        # Textual's own is a shade of whatever lies below, which spans of text cannot work out.
        "text-muted": "#8a8a8a",
        "block-cursor-background": "#3a3a3a",
        "block-cursor-foreground": "#eeeeee",
        "block-cursor-text-style": "bold",
        "block-cursor-blurred-background": "#262626",
        "block-cursor-blurred-foreground": "#d0d0d0",
        "scrollbar": "#444444",
        "scrollbar-hover": "#585858",
        "scrollbar-active": "#8a8a8a",
        "scrollbar-background": "#121212",
        "scrollbar-background-hover": "#121212",
        "scrollbar-background-active": "#121212",
        "input-cursor-background": "#ffaf5f",
        **_on_cursor(ON_CURSOR),
    },
)
"""Every colour is one of the 256 that xterm has, so that it looks the same over SSH and in tmux."""

_SIXTEEN = BUILTIN_THEMES["ansi-dark"]
SIXTEEN = replace(
    _SIXTEEN,
    name="deck-16",
    variables={**_SIXTEEN.variables, **_on_cursor(dict.fromkeys(ON_CURSOR, "ansi_default"))},
)
"""For terminals of 16 colours, of which nobody knows how they look. A highlighted row is the
terminal's own two colours the other way round: whatever they are, they can be read."""


def theme_for_terminal() -> str:
    """The theme's name: a terminal of 16 colours gets one that is made for them."""
    colours = os.environ.get("TERM", "")
    rich_enough = "256" in colours or "direct" in colours or os.environ.get("COLORTERM")
    known_poor = colours in {"screen", "xterm", "linux", "vt100", "ansi"}
    # Without colours Textual makes greys of them, and of the 16 all would become black.
    grey = "NO_COLOR" in os.environ
    return SIXTEEN.name if known_poor and not rich_enough and not grey else DECK.name
