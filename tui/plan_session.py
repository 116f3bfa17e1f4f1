"""A plan as it is worked on: what it rests on, the knobs as turned, what of it is shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import UserError
from core.models.filtering import matches
from core.objectives import OBJECTIVES, ObjectiveName, refusal
from core.planning.candidates import Candidate, Plan
from core.planning.data import DataSize, size_of
from core.planning.learning import measurements
from core.planning.planner import plan
from core.planning.presets import candidate_of
from core.planning.prices import remember_price
from core.planning.recipes import recipe_for
from core.planning.retuning import retune
from core.recipe import Recipe
from tui.deck import Deck

if TYPE_CHECKING:
    from core.hardware.machine import Machine
    from core.models.catalogue import ModelCard
    from core.planning.calibration import Measurement

MOVED_ENOUGH = 0.03
ASSUMED_TOKENS, ASSUMED_ROWS = 300, 1000
Key = tuple[str, str, int]


class PlanSession:
    """Knows no widgets. `make` blocks: call it from a thread."""

    def __init__(self, deck: Deck) -> None:
        self.deck = deck
        self.plan: Plan | None = None
        self.only: ModelCard | None = None
        self.name: str | None = None
        self.objective: ObjectiveName | None = None
        """As chosen; otherwise it follows from the rows."""
        self.gpus = 1
        self.words = ""
        """Only models that these words mean are shown."""
        self.price: float | None = None
        """As typed in this session; the planner knows what was typed in others."""
        self.measured: list[Measurement] = []
        self._proposed: dict[Key, Candidate] = {}
        self._turned: dict[Key, Candidate] = {}
        self._shown: tuple[str, list[tuple[Key, Candidate]]] | None = None
        self._planned_for: tuple[object, ...] = ()
        self._planned_free = 0.0

    # Planning

    def is_stale(self, machine: Machine) -> bool:
        """Whether what the plan rests on has changed; the free memory if it moved far, or if
        something that fitted fits no longer."""
        free = self._free(machine)
        counted = self.deck.report.tokens if self.deck.report else None
        chosen = (self.only, self.price, self.objective, self.gpus)
        devices = [(gpu.uuid, gpu.name, gpu.visible, gpu.free is None) for gpu in machine.devices()]
        basis = (self.deck.source, counted, chosen, machine.gpu_note, devices)
        moved = abs(free - self._planned_free) > MOVED_ENOUGH * max(free, 1)
        if basis == self._planned_for and not moved and not self._fits_no_more(free):
            return False
        self._planned_for, self._planned_free = basis, free
        return True

    def _free(self, machine: Machine) -> int:
        """What a run would find: on the fullest where several GPUs train together."""
        gpu = machine.best_gpu()
        if gpu is None:
            return machine.ram_available
        return min([gpu, *machine.cards()[1 : self.gpus]], key=lambda one: one.free or 0).free or 0

    def _fits_no_more(self, free: int) -> bool:
        """Whether one that is said to fit needs more than is left now."""
        if self.plan is None or free >= self._planned_free:
            return False
        share = free / self._planned_free  # of RAM a plan takes only a part
        left = share * self.plan.free_bytes
        return any(one.fits and one.prediction.high > left for one in self.plan.candidates)

    def take_price(self, price: float | None) -> None:
        """Dollars an hour, remembered for the device that is planned for; None forgets it."""
        basis = self.plan.basis if self.plan else None
        if basis is not None and basis.device:
            remember_price(basis.device, price)
        self.price = price
        self._planned_for = ()  # whatever was planned for no longer counts

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
            objective=self.objective,
            gpus=self.gpus,
            dollars_per_hour=self.price,
            measured=self.measured,
        )

    def receive(self, made: Plan) -> None:
        """Take a plan; knobs that were turned stay so, priced anew."""
        self.plan = made
        self._proposed, self._shown = keyed(made.candidates), None
        self._turned = {
            key: retune(self._turned[key], basis=fresh.basis)
            for key, fresh in self._proposed.items()
            if key in self._turned
        }

    # The objective, and how many GPUs

    def next_objective(self) -> str | None:
        """Take the next one that can learn from the rows; why not, where there is no other."""
        now = self.plan.basis.objective if self.plan and self.plan.basis else "sft"
        found = self.deck.report.format if self.deck.report else "messages"
        there = [name for name in OBJECTIVES if found == "unknown" or not refusal(name, found)]
        if len(there) < 2:
            return f"Nothing else can learn from {found} rows."
        at = there.index(now) if now in there else -1
        self.objective = there[(at + 1) % len(there)]
        return None

    def next_gpus(self) -> str | None:
        """Let one more GPU train with the others, or only one again; why not, where there is but
        one."""
        machine = self.deck.machine
        count = len(machine.cards()) if machine else 0
        if count < 2:
            return "There are not several GPUs that could train together."
        self.gpus = self.gpus % count + 1
        return None

    # What is shown

    @property
    def rows(self) -> list[tuple[Key, Candidate]]:
        """The rows of the table, each under its key, with the knobs as they were turned."""
        if self._shown is None or self._shown[0] != self.words:  # asked for many times a key
            rows = [
                (key, self._turned.get(key, one))
                for key, one in self._proposed.items()
                if matches(one.model, self.words)
            ]
            self._shown = self.words, rows
        return self._shown[1]

    @property
    def candidates(self) -> list[Candidate]:
        """The rows without their keys."""
        return [candidate for _, candidate in self.rows]

    @property
    def starred(self) -> Key | None:
        """The recommended one, if any is."""
        if self.plan is None or self.plan.recommended is None:
            return None
        return list(self._proposed)[self.plan.recommended]

    @property
    def dollars_per_hour(self) -> float | None:
        """What the plan's costs rest on."""
        basis = self.plan.basis if self.plan else None
        return basis.dollars_per_hour if basis else self.price

    def is_turned(self, key: Key) -> bool:
        return key in self._turned

    def turn(self, key: Key, candidate: Candidate) -> None:
        """A candidate with other settings takes the place of the proposed one."""
        self._turned[key] = candidate
        self._shown = None

    def undo(self, key: Key) -> None:
        """Back to the proposed values."""
        self._turned.pop(key, None)
        self._shown = None

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
            eval_sources=self.deck.eval_sources,
            eval_by_name=self.deck.held_out != "",
            mapping=self.deck.mapping,
            train_on=self.deck.train_on,
            rows=report.usable if report else 0,
        )

    def priced(self, recipe: Recipe) -> Candidate | None:
        """What a recipe needs here; None for a model of unknown shape, or before there is a
        plan."""
        basis = self.plan.basis if self.plan else None
        if basis is None:
            return None
        try:
            return candidate_of(recipe, replace(basis, gpus=self._count(recipe)))
        except UserError:
            return None

    def _count(self, recipe: Recipe) -> int:
        gpus, machine = recipe.hardware.gpus, self.deck.machine
        if gpus == "all":
            return max(1, len(machine.cards())) if machine else 1
        return gpus if isinstance(gpus, int) else len(gpus)


def keyed(candidates: Iterable[Candidate]) -> dict[Key, Candidate]:
    """Each under what makes it the same one in another plan: model, method, and which of those."""
    found: dict[Key, Candidate] = {}
    for one in candidates:
        number = 0
        while (key := (one.model.id, one.method, number)) in found:
            number += 1
        found[key] = one
    return found
