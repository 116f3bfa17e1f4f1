"""Measures a run again, on request: JSON lines of events on stdout.

    python -P -m core.evaluation.worker RUN_DIRECTORY

Ends with its stdin. The run's results are replaced one model at a time, whole.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.inference.wire import Wire, end_with_stdin
from core.models.locate import locate
from core.recipe import load_recipe
from core.runs.diagnosis import explain
from core.runs.directory import RunDirectory
from core.runs.events import EventWriter
from core.runs.lock import RunLock
from core.training.device import prepare_environment


def main(arguments: list[str]) -> int:
    wire = Wire()
    end_with_stdin()
    run = RunDirectory(Path(arguments[0]))
    try:
        measure_again(run, wire)
    except Exception as error:  # noqa: BLE001 - the reader gets a sentence, the log the rest
        traceback.print_exc()
        reason = explain(error)
        wire.send(kind="error", message=reason.message, remedy=reason.remedy)
        return 1
    return 0


def measure_again(run: RunDirectory, wire: Wire) -> None:
    """All models of the run, anew. UserError while the run itself is at work."""
    lock = RunLock(run.lock)
    if not lock.acquire():
        raise UserError(f"{run.id} is still at work.", "Wait for its end, or stop it.")
    recipe = load_recipe(run.recipe)
    prepare_environment(recipe.hardware.one_gpu)
    base = locate(recipe.model.id, recipe.model.revision)
    from core.data.prepared import load_prepared
    from core.evaluation.evaluate import evaluate
    from core.inference.loading import quiet_transformers

    quiet_transformers()
    events = EventWriter(run.events)

    def emit(kind: str, **fields: Any) -> None:
        wire.send(kind=kind, t=time.time(), **fields)
        if kind == "result":
            events.write(kind, **fields)

    evaluate(run, recipe, base, load_prepared(run.data), emit)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
