"""What the six places have in common: the bar on top, the keys below, the way between them."""

from __future__ import annotations

import gc
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.css.query import NoMatches
from textual.events import Key
from textual.screen import Screen
from textual.widgets import Static

from tui.widgets.key_bar import KeyBar
from tui.widgets.top_bar import TopBar

if TYPE_CHECKING:
    from core.hardware.machine import Machine
    from tui.app import TuneDeck
    from tui.deck import Deck

FEWER_COLLECTIONS = (10_000, 20, 20)
TOO_SMALL = "This terminal is too small: TuneDeck needs 60 columns and 15 rows."


def _keep() -> None:
    """What a place is made of stays until the end: a garbage collection that looks at all of it
    every two seconds makes a key wait 50 ms."""
    gc.set_threshold(*FEWER_COLLECTIONS)
    gc.freeze()


class Place(Screen[None]):
    """A place in the journey. Subclasses compose their `body` and react to the hooks below."""

    PLACE: ClassVar[str] = ""
    """The mode's name: home, data, plan, train, result or chat."""

    HORIZONTAL_BREAKPOINTS = [(0, "-too-narrow"), (60, "-narrow"), (100, "-normal"), (150, "-wide")]
    VERTICAL_BREAKPOINTS = [(0, "-too-short"), (15, "-short"), (32, "-tall")]

    @property
    def deck(self) -> Deck:
        """What the app has in hand."""
        return self.deck_app.deck

    @property
    def deck_app(self) -> TuneDeck:
        return cast("TuneDeck", self.app)

    @property
    def in_front(self) -> bool:
        """Whether this is the screen that is seen (no other place, no dialogue over it)."""
        return self.is_attached and self.app.screen is self

    def compose(self) -> ComposeResult:
        yield TopBar(self.PLACE)
        yield from self.body()
        yield KeyBar()
        yield Static(TOO_SMALL, classes="too-small", markup=False)

    def on_mount(self) -> None:
        if not self.app.is_headless:
            self.call_after_refresh(_keep)

    def body(self) -> ComposeResult:
        """The widgets between the bar and the keys."""
        raise NotImplementedError

    def arrive(self) -> None:
        """Called each time the place comes to the front, also from under a dialogue."""

    def show_machine(self, machine: Machine) -> None:
        """Called with each reading of the machine while the place is in front."""

    def why_not(self, action: str) -> str | None:
        """Why an action cannot be done now, as a sentence; None when it can.

        Its key is then dim, and pressing it shows the sentence.
        """
        return None

    def interrupt(self) -> bool:
        """End what is being done here, if anything is that `ctrl+c` is expected to end."""
        return False

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return None if self.why_not(action) else True

    def on_key(self, event: Key) -> None:
        """Say why a key does nothing."""
        active = self.active_bindings.get(event.key)
        if active is not None and active.node is self and not active.enabled:
            reason = self.why_not(active.binding.action.partition("(")[0])
            if reason:
                self.notify(reason, markup=False, timeout=4)

    def on_screen_resume(self) -> None:
        if self.deck.machine is not None:
            self.receive_machine(self.deck.machine)
        self.arrive()

    def receive_machine(self, machine: Machine) -> None:
        """Hand a reading to the bar and to the place."""
        with suppress(NoMatches):  # while the app closes, widgets go before their screen
            self.query_one(TopBar).machine = machine
            self.show_machine(machine)
