"""What the app has in hand at the moment; the screens read and set it. Nothing here is precious:
runs live in their folders, so losing the app loses nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from core.data.encoding import TrainOn
    from core.data.report import Report
    from core.hardware.machine import Machine
    from core.recipe import Recipe
    from core.runs.directory import RunDirectory


@dataclass(slots=True)
class Deck:
    """The thread through the journey: data → recipe → run.

    `source`, `report`, the rows held out and what is trained come from the Data screen, `recipe`
    from Plan, `run` is the one that Train, Result and Chat show, `machine` is the latest reading.
    """

    source: str | None = None
    report: Report | None = None
    mapping: dict[str, str] = field(default_factory=dict)
    held_out: str | None = None
    """As named; empty: none, so a part of the rows is; None: what the source itself sets apart."""
    train_on: TrainOn = "assistant"
    model: str | None = None
    max_length: int = 1024
    recipe: Recipe | None = None
    run: RunDirectory | None = None
    machine: Machine | None = None

    @property
    def eval_sources(self) -> list[str]:
        """What is held out for evaluation; nothing where it is to be a part of the rows."""
        if self.held_out is None:
            return list(self.report.held_out) if self.report else []
        return [self.held_out] if self.held_out else []
