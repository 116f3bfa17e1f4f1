"""Watching a run from outside: everything a dashboard shows, gathered look by look.

A look reads files and may take a while on a slow disk: call it off the event loop. It reads at
most a budget a time, so that attaching to a run of 100,000 events shows progress instead of
freezing. Any number of watchers may look at one run; none disturbs it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from core.errors import UserError
from core.recipe import Recipe, load_recipe
from core.runs.directory import RunDirectory
from core.runs.events import EventReader
from core.runs.history import RunHistory
from core.runs.log_tail import log_lines
from core.runs.samples import SampleHistory, SampleReader
from core.runs.state import RunState, current_state

EVENT_BUDGET = 512 * 1024


@dataclass(frozen=True, slots=True)
class RunView:
    """A run at one moment. `read` is the share of its events that has been read, 0 to 1.

    `history` and `samples` grow with the next look: use them before asking for it.
    """

    run: RunDirectory
    recipe: Recipe | None
    state: RunState
    history: RunHistory
    samples: SampleHistory
    log: tuple[str, ...]
    taken: float
    read: float

    @property
    def behind(self) -> bool:
        """Whether more events lie ready than were read."""
        return self.read < 1.0

    @property
    def elapsed(self) -> float | None:
        """Seconds at work so far."""
        return self.history.elapsed(self.taken if self.state.alive else None)

    @property
    def dollars_per_hour(self) -> float | None:
        return None if self.recipe is None else self.recipe.hardware.dollars_per_hour

    @property
    def name(self) -> str:
        return self.run.id if self.recipe is None else self.recipe.name


class RunWatch:
    """Follows one run. Not safe to look from two threads at once."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._recipe: Recipe | None = None
        self._events = EventReader(run.events, EVENT_BUDGET)
        self._samples = SampleReader(run.gpu)
        self._history = RunHistory()

    def look(self, lines: int = 0) -> RunView:
        """Read on, and say how the run stands now, with at most `lines` of its log.

        UserError when its folder is gone.
        """
        if not self.run.path.is_dir():
            raise UserError(f"The run {self.run.id} has been deleted.")
        self._history.update(self._events.read())
        samples = self._samples.read()
        return RunView(
            self.run,
            self._read_recipe(),
            current_state(self.run),
            self._history,
            samples,
            tuple(log_lines(self.run.log, lines)) if lines else (),
            time.time(),
            self._events.share_read if self._events.behind else 1.0,
        )

    def _read_recipe(self) -> Recipe | None:
        if self._recipe is None:
            try:
                self._recipe = load_recipe(self.run.recipe)
            except UserError:
                return None  # being removed, or written by a later version: the rest still shows
        return self._recipe
