"""The app: theme, bindings and the way between the places, nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from core.errors import UserError
from tui.deck import Deck
from tui.screens.place import Place
from tui.theme import DECK, SIXTEEN, theme_for_terminal

if TYPE_CHECKING:
    from core.recipe import Recipe
    from core.runs.directory import RunDirectory

READING_INTERVAL_SECONDS, OVERDUE_SECONDS = 2.0, 10.0
OVERDUE = (
    "The machine has not been read for 10 seconds: the NVIDIA driver or a disk does not answer."
    " What is shown is from before."
)
ABOUT = {
    "home": "The machine and all runs",
    "data": "Open rows, see what would be trained on",
    "plan": "What fits, how long it takes, what it costs",
    "train": "Watch the run",
    "result": "Base against tuned on held-out rows",
    "chat": "Talk to the tuned model",
}


def _home() -> Screen[None]:
    from tui.screens.home import HomeScreen

    return HomeScreen()


def _data() -> Screen[None]:
    from tui.screens.data import DataScreen

    return DataScreen()


def _plan() -> Screen[None]:
    from tui.screens.plan import PlanScreen

    return PlanScreen()


def _train() -> Screen[None]:
    from tui.screens.train import TrainScreen

    return TrainScreen()


def _result() -> Screen[None]:
    from tui.screens.result import ResultScreen

    return ResultScreen()


def _chat() -> Screen[None]:
    from tui.screens.chat import ChatScreen

    return ChatScreen()


class TuneDeck(App[None]):
    """Fine-tuning from a terminal. A place is imported when it is first visited."""

    TITLE = "TuneDeck"
    CSS_PATH = "styles/app.tcss"
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, str | Callable[[], Screen[None]]]] = {  # type: ignore[assignment]
        "home": _home,
        "data": _data,
        "plan": _plan,
        "train": _train,
        "result": _result,
        "chat": _chat,
    }
    COMMAND_PALETTE_DISPLAY = "^p"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(str(number), f"go('{place}')", place.capitalize(), show=False)
            for number, place in enumerate(MODES, 1)
        ),
        Binding("question_mark", "help", "Keys", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+q", "quit", "Quit", show=False),
        Binding("ctrl+c", "interrupt", "Quit", show=False, priority=True),
    ]

    def __init__(self, deck: Deck | None = None, start: str = "home") -> None:
        super().__init__()
        self.deck = deck or Deck()
        self._start = start
        self._launching = False
        self._asked, self._overdue = 0.0, False
        self.debug_wanted = False

    def on_mount(self) -> None:
        for theme in (DECK, SIXTEEN):
            self.register_theme(theme)
        self.theme = theme_for_terminal()
        self.switch_mode(self._start)
        self.call_after_refresh(self.read_machine)  # the first frame does not wait for NVML
        self.set_interval(READING_INTERVAL_SECONDS, self.read_machine)

    def read_machine(self) -> None:
        """Take one reading off the event loop, unless the last one has not come back: threads that
        wait for a driver that hangs would leave none for anything else."""
        if not any(one.group == "machine" and one.is_running for one in self.workers):
            self._asked, self._overdue = time.monotonic(), False
            self._read_machine()
        elif time.monotonic() - self._asked > OVERDUE_SECONDS and not self._overdue:
            self._overdue = True
            self.notify(OVERDUE, severity="warning", timeout=12)

    @work(thread=True, group="machine")
    def _read_machine(self) -> None:
        """Show the reading on the place in front."""
        from core.hardware.readings import read_machine

        machine = read_machine()
        self.call_from_thread(self._receive_machine, machine)

    def _receive_machine(self, machine: object) -> None:
        self.deck.machine = machine  # type: ignore[assignment]
        if isinstance(self.screen, Place):
            self.screen.receive_machine(machine)  # type: ignore[arg-type]

    def action_go(self, place: str) -> None:
        self.switch_mode(place)

    async def action_interrupt(self) -> None:
        """As in a shell: what is being done here ends; the app, where nothing is."""
        if not (isinstance(self.screen, Place) and self.screen.interrupt()):
            await self.action_quit()

    def action_help(self) -> None:
        from tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_machine(self) -> None:
        """Every reading of the machine, over the place in front."""
        from tui.screens.machine import MachineScreen

        if not isinstance(self.screen, MachineScreen):
            self.push_screen(MachineScreen())

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The entries of the command palette."""
        for place, about in ABOUT.items():
            yield SystemCommand(
                f"Go to {place.capitalize()}", about, partial(self.action_go, place)
            )
        yield SystemCommand("Start the demo", "Embedded model and data, minutes", self.start_demo)
        yield SystemCommand("The machine", "All readings of GPUs and host", self.action_machine)
        yield SystemCommand("Keys", "The keys that work right now", self.action_help)
        yield SystemCommand("Quit", "Runs at work go on without the app", self.action_quit)

    def action_command_palette(self) -> None:
        """All that can be done, to search through."""
        from tui.screens.palette import Palette

        if not any(isinstance(screen, Palette) for screen in self.screen_stack):
            self.push_screen(Palette(id="--command-palette"))

    def start_demo(self) -> None:
        """Train the embedded model on the embedded data, and show it."""
        from core import demo

        self.start_run(demo.recipe())

    def start_run(self, recipe: Recipe, *, watch: bool = True, queued: bool = False) -> None:
        """Launch a run off the event loop, or put it at the end of the queue; go to Train as
        soon as it lives, unless it is not to be watched."""
        if self._launching:
            self.notify("A run is being started already.")
            return
        self._launching = True
        self.notify(f"Starting {recipe.name} …", markup=False, timeout=3)
        self._launch(recipe, watch, queued)

    @work(thread=True, group="launch")
    def _launch(self, recipe: Recipe, watch: bool, queued: bool) -> None:
        from core.runs.supervisor import launch

        try:
            run = launch(recipe, queued=True) if queued else launch(recipe)
        except UserError as error:
            self.call_from_thread(self._not_launched, error)
        else:
            self.call_from_thread(self._launched, run, watch, queued)

    def _not_launched(self, error: UserError) -> None:
        self._launching = False
        self.report(error)

    def _launched(self, run: RunDirectory, watch: bool, queued: bool) -> None:
        self._launching = False
        self.deck.run = run
        if watch:
            self.switch_mode("train")
            return
        what = "waits for the runs before it" if queued else "has started"
        self.notify(f"{run.id} {what}. It goes on without the app; 4 shows it.", markup=False)

    def _fatal_error(self) -> None:
        """Leave with a sentence where Textual would print a traceback; that goes to a file."""
        if self.debug_wanted:
            super()._fatal_error()
            return
        from tui.crash import keep_traceback

        self._exit_renderables.append(keep_traceback())
        self._close_messages_no_wait()

    def report(self, error: UserError) -> None:
        """Show what went wrong and what to do, as plain text."""
        text = f"{error.message}\n{error.remedy}".strip()
        self.notify(text, severity="error", markup=False, timeout=12)
