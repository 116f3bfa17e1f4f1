"""One line at the bottom of every place: the keys that work right now."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from textual.app import RenderResult
from textual.binding import Binding
from textual.content import Content
from textual.events import Click
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input

if TYPE_CHECKING:
    from textual.screen import Screen

LAST_ACTIONS = ("help", "quit")
"""The app's own keys: always shown, at the right end."""


class Key(NamedTuple):
    """A key as the bar shows it."""

    press: str
    shown: str
    description: str
    action: str
    enabled: bool

    @property
    def width(self) -> int:
        return len(self.shown) + 1 + len(self.description)


class KeyBar(Widget):
    """The keys of what has the focus, of the place and of the app; as many as there is room for.

    A key that does nothing at the moment is dim; `?` lists those that found no room.
    """

    DEFAULT_CSS = """
    KeyBar { dock: bottom; height: 1; background: $footer-background; padding: 0 1;
             color: $footer-description-foreground; }
    """
    GAP = 2

    keys: reactive[tuple[Key, ...]] = reactive(())
    """What the bar shows, if there is room."""

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._look)
        self._look(self.screen)

    def _look(self, screen: Screen[object]) -> None:
        if screen is self.app.screen:
            self.keys = shown_keys(screen)

    def render(self) -> RenderResult:
        left, right = fit(self.keys, self.size.width, self.GAP)
        used = line_width(left, self.GAP) + line_width(right, self.GAP)
        gap = " " * max(0, self.size.width - used)
        return Content("").join([self._line(left), Content(gap), self._line(right)])

    def on_click(self, event: Click) -> None:
        """The keys can be clicked where there is a mouse."""
        left, right = fit(self.keys, self.size.width, self.GAP)
        for keys, position in ((left, 0), (right, self.size.width - line_width(right, self.GAP))):
            for key in keys:
                if position <= event.x - 1 < position + key.width:
                    self.app.simulate_key(key.press)
                position += key.width + self.GAP

    def _line(self, keys: list[Key]) -> Content:
        return Content(" " * self.GAP).join(
            Content.assemble(
                (key.shown, "bold $footer-key-foreground" if key.enabled else "dim"),
                (f" {key.description}", "" if key.enabled else "dim"),
            )
            for key in keys
        )


def shown_keys(screen: Screen[object]) -> tuple[Key, ...]:
    """The bindings that want to be seen, one for each action, those of the focus first."""
    keys: dict[str, Key] = {}
    typing = isinstance(screen.focused, Input)
    for active in screen.active_bindings.values():
        binding = active.binding
        shown = screen.app.get_key_display(binding)
        if typing and _is_typed(binding):
            continue  # it is typed
        if binding.show and binding.description and binding.action not in keys:
            keys[binding.action] = Key(
                binding.key, shown, binding.description, binding.action, active.enabled
            )
    return tuple(keys.values())


def fit(keys: tuple[Key, ...], width: int, gap: int) -> tuple[list[Key], list[Key]]:
    """The keys for the left and for the right end; from the left's end fall those too many."""
    right = [key for key in keys if key.action in LAST_ACTIONS]
    left = [key for key in keys if key.action not in LAST_ACTIONS]
    while left and line_width(left, gap) + gap + line_width(right, gap) > width:
        left.pop()
    return left, right


def line_width(keys: list[Key], gap: int) -> int:
    """The cells that these keys take in a line."""
    return sum(key.width for key in keys) + gap * max(0, len(keys) - 1)


def _is_typed(binding: Binding) -> bool:
    """Whether the key writes a character: in a line to type in, that is what it does."""
    return binding.key not in ("enter", "tab") and len(binding.key_display or binding.key) == 1
