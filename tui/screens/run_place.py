"""A place that shows the deck's run: it watches the run's folder while it is in front."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from textual.css.query import NoMatches
from textual.timer import Timer
from textual.worker import get_current_worker

from core.errors import UserError
from core.runs.watch import RunView, RunWatch
from tui.screens.place import Place

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 0.05


class RunPlace(Place):
    """Looks once a second, in a thread, and hands what it saw to `show`.

    A covered place does not look. What was read of a run stays for the next visit.
    """

    LOOKS_AT_LOG = 0
    """How many last lines of the log each look takes."""

    def __init__(self) -> None:
        super().__init__()
        self._watch: RunWatch | None = None
        self._timer: Timer | None = None
        self._looking = False
        self._look_again = False
        self._stood: tuple[str, str] | None = None
        self.view: RunView | None = None
        """The latest look; None without a run, and before the first look at it."""

    def show(self, view: RunView, more: Any) -> None:
        """Show the run as it is now. `more` is what `read_more` returned."""
        raise NotImplementedError

    def read_more(self, view: RunView) -> Any:
        """Read what else the place needs. Called in the thread, after each look."""
        return None

    def leave_run(self) -> None:
        """The deck has another run now, or none: forget what was shown of the last one."""

    def arrive(self) -> None:
        run = self.deck.run
        self.set_class(run is None, "-nothing")
        if self._watch is None or self._watch.run != run:
            self._watch, self.view = (None if run is None else RunWatch(run)), None
            self._stood = None
            self.leave_run()
            self.refresh_bindings()
        if run is None:
            return
        if self._timer is None:
            self._timer = self.set_interval(LOOK_SECONDS, self.look)
        self._timer.resume()
        self.look()

    def on_screen_suspend(self) -> None:
        """Nobody sees this place now: stop looking."""
        if self._timer is not None:
            self._timer.pause()

    def look(self) -> None:
        """Take a look; while one is being taken, another follows it."""
        self._look_again = self._looking
        if self._looking or self._watch is None:
            return
        self._looking = True
        watch, lines = self._watch, self.LOOKS_AT_LOG
        self.run_worker(lambda: self._read(watch, lines), thread=True, group="watch")

    def _read(self, watch: RunWatch, lines: int) -> None:
        """In the thread: read on until the present, showing each part as it comes."""
        worker = get_current_worker()
        try:
            behind = True
            while behind and not worker.is_cancelled and watch is self._watch:
                view = watch.look(lines)
                behind = view.behind
                more = self.read_more(view)
                self.app.call_from_thread(self._receive, watch, view, more)
        except UserError as error:
            self.app.call_from_thread(self._lose, watch, error)
        finally:
            self._looking = False

    def _receive(self, watch: RunWatch, view: RunView, more: Any) -> None:
        if watch is not self._watch or not self.in_front:
            return
        self.view = view
        standing = _standing(view)
        if standing != self._stood:  # remembered, as all views share one growing history
            self._stood = standing
            self.refresh_bindings()
        with suppress(NoMatches):  # while the app closes, widgets go before their screen
            self.show(view, more)
        if self._look_again and not view.behind:
            self.set_timer(AGAIN_SECONDS, self.look)

    def _lose(self, watch: RunWatch, error: UserError) -> None:
        """The run's folder has gone: say so, and have no run."""
        if watch is self._watch:
            self.deck.run = None
            self.deck_app.report(error)
            self.arrive()


def _standing(view: RunView) -> tuple[str, str]:
    """What the keys depend on."""
    return view.state.phase, view.history.stage
