"""Makes the merged/ of a run that was trained without one.

    python -P -m core.export.merging RUN_DIRECTORY

One JSON line with `message` and `remedy` on stdout when it cannot.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from core.data.prepared import load_prepared
from core.errors import UserError
from core.inference.wire import Wire, end_with_stdin
from core.models.locate import locate
from core.recipe import load_recipe
from core.runs.diagnosis import explain
from core.runs.directory import RunDirectory
from core.runs.lock import RunLock
from core.training.device import prepare_environment


def main(arguments: list[str]) -> int:
    wire = Wire()
    end_with_stdin()
    run = RunDirectory(Path(arguments[0]))
    try:
        _merge(run)
    except Exception as error:  # noqa: BLE001 - the reader gets a sentence, the log the rest
        traceback.print_exc()
        reason = explain(error)
        wire.send(message=reason.message, remedy=reason.remedy)
        return 1
    return 0


def _merge(run: RunDirectory) -> None:
    lock = RunLock(run.lock)
    if not lock.acquire():
        raise UserError(f"{run.id} is still at work.", "Wait for its end, or stop it.")
    recipe = load_recipe(run.recipe)
    prepare_environment(recipe.hardware.one_gpu)
    base = locate(recipe.model.id, recipe.model.revision)
    prepared = load_prepared(run.data)
    from core.training.merge import merge

    rows = (prepared.eval or prepared.train)[:8]
    merge(run, recipe, base, [row.input_ids for row in rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
