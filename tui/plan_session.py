"""A plan as it is worked on: what it rests on, the knobs as turned, what of it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from core.models.filtering import matches
from core.planning.candidates import Candidate, Plan
from core.planning.data import DataSize, size_of
from core.planning.learning import measurements
from core.planning.planner import plan
from core.planning.recipes import recipe_for
from core.planning.search import retune
from core.recipe import Recipe
from tui.deck import Deck

if TYPE_CHECKING:
    from core.hardware.machine import Machine
    from core.models.catalogue import ModelCard
    from core.planning.calibration import Measurement

MOVED_ENOUGH = 0.03
ASSUMED_TOKENS, ASSUMED_ROWS = 300, 1000
Key = tuple[str, str]


class PlanSession:
    """Knows no widgets. `make` blocks: call it from a thread."""

    def __init__(self, deck: Deck) -> None:
        self.deck = deck
        self.plan: Plan | None = None
        self.only: ModelCard | None = None
        self.name: str | None = None
        self.words = ""
        """Only models that these words mean are shown."""
        self.price: float | None = None
        """As typed in this session; the planner knows what was typed in others."""
        self.measured: list[Measurement] = []
        self._turned: dict[Key, Candidate] = {}
        self._planned_for: tuple[object, ...] = ()
        self._planned_free = 0.0

    # Planning

    def is_stale(self, machine: Machine) -> bool:
        """Whether what the plan rests on has changed; the free memory only if it moved."""
        gpu = machine.best_gpu()
        free = (gpu.free if gpu else machine.ram_available) or 0
        counted = self.deck.report.tokens if self.deck.report else None
        basis = (self.deck.source, counted, self.only, self.price, gpu and gpu.uuid)
        moved = abs(free - self._planned_free) > MOVED_ENOUGH * max(free, 1)
        if basis == self._planned_for and not moved:
            return False
        self._planned_for, self._planned_free = basis, free
        return True

    def plan_anew(self) -> None:
        """Whatever was planned for no longer counts."""
        self._planned_for = ()

    def make(self, machine: Machine) -> Plan:
        """The plan for the data in hand, or for an example. UserError as the planner raises it."""
        report = self.deck.report
        counted = report.tokens if report else None
        rows = report.usable if report and report.usable else ASSUMED_ROWS
        example = DataSize(rows, ASSUMED_TOKENS, ASSUMED_TOKENS, ASSUMED_TOKENS)
        self.measured = measurements()
        return plan(
            machine,
            size_of(report) if report and counted else example,
            models=[self.only] if self.only else None,
            dollars_per_hour=self.price,
            measured=self.measured,
        )

    def receive(self, made: Plan) -> None:
        """Take a plan; knobs that were turned stay so, priced anew."""
        self.plan = made
        self._turned = {
            key_of(fresh): retune(self._turned[key_of(fresh)], basis=fresh.basis)
            for fresh in made.candidates
            if key_of(fresh) in self._turned
        }

    # What is shown

    @property
    def candidates(self) -> list[Candidate]:
        """The rows of the table, with the knobs as they were turned."""
        made = self.plan.candidates if self.plan else ()
        return [
            self._turned.get(key_of(one), one) for one in made if matches(one.model, self.words)
        ]

    @property
    def starred(self) -> Key | None:
        """The recommended one, if any is."""
        if self.plan is None or self.plan.recommended is None:
            return None
        return key_of(self.plan.candidates[self.plan.recommended])

    @property
    def dollars_per_hour(self) -> float | None:
        """What the plan's costs rest on."""
        basis = self.plan.basis if self.plan else None
        return basis.dollars_per_hour if basis else self.price

    def is_turned(self, candidate: Candidate) -> bool:
        return key_of(candidate) in self._turned

    def turn(self, candidate: Candidate) -> None:
        """A candidate with other settings takes its place."""
        self._turned[key_of(candidate)] = candidate

    def undo(self, candidate: Candidate) -> None:
        """Back to the proposed values."""
        self._turned.pop(key_of(candidate), None)

    # The recipe

    @property
    def run_name(self) -> str:
        """As named by the user, else after the data."""
        return self.name or Path(self.deck.source or "run").stem[:60] or "run"

    def recipe(self, candidate: Candidate) -> Recipe:
        """What would be started."""
        report = self.deck.report
        return recipe_for(
            candidate,
            name=self.run_name,
            sources=[self.deck.source or ""],
            mapping=self.deck.mapping,
            rows=report.usable if report else 0,
        )


def key_of(candidate: Candidate) -> Key:
    """What makes a candidate the same one in another plan."""
    return candidate.model.id, candidate.method
