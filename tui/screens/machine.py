"""The machine with every reading there is, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from core.hardware.stack import stack_facts
from tui.widgets.machine_facts import MachineFacts
from tui.widgets.row_pane import Pane

if TYPE_CHECKING:
    from tui.app import TuneDeck

LOOK_SECONDS = 1.0


class MachineScreen(ModalScreen[None]):
    """Follows the readings that the app takes; any of `i`, Esc, Enter or `q` closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,i,enter,q", "dismiss", "Close")]

    def __init__(self) -> None:
        super().__init__(classes="dialogue")

    def compose(self) -> ComposeResult:
        with Vertical(classes="frame"):
            yield Static(Content.styled("The machine, right now", "bold"))
            with Pane(id="readings"):
                yield MachineFacts(stack_facts())
            keys = Content.assemble(("Esc", "bold $accent"), " closes   ", ("↑↓", "bold $accent"))
            yield Static(keys + Content(" scroll"), classes="muted")

    def on_mount(self) -> None:
        self.query_one(Pane).focus()
        self._look()
        self.set_interval(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        self.query_one(MachineFacts).show(cast("TuneDeck", self.app).deck.machine)
