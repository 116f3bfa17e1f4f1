"""One command for machines that may be taken away: it starts a run, or goes on with it.

On the next machine, with the runs on the same mounted volume, the same command finds the run by
its recipe's name.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from core.errors import UserError, describe_os_error
from core.paths import runs_root
from core.recipe import Recipe, load_recipe
from core.runs.brief import brief
from core.runs.directory import RunDirectory, run_ids, write_atomically
from core.runs.identity import SOURCES, check_same, identity, source_digests
from core.runs.lock import holder_anywhere
from core.runs.nodes import Node, write_node
from core.runs.state import current_state
from core.runs.supervisor import launch, resume
from core.units import duration_text

LEASE_SECONDS = 180.0
LOOK_SECONDS = 0.5


def start_or_resume(recipe: Recipe, node: Node | None = None) -> RunDirectory:
    """The newest run of this name: resumed, or as it is when it lives or has finished; else a
    new one. UserError with the difference when it was begun with another recipe or other data."""
    run = _newest(recipe)
    if run is None:
        return launch(recipe, node=node)
    before = load_recipe(run.recipe)
    check_same(identity(before), identity(recipe), run.id)
    _check_sources(run, recipe)
    _wait_for_the_lock_of_a_lost_machine(run)
    state = current_state(run)
    if not state.alive and state.phase != "finished":
        _adopt(run, before, recipe)
        if node is not None:
            write_node(run, node)
        resume(run)
    return run


def _newest(recipe: Recipe) -> RunDirectory | None:
    runs = (RunDirectory(runs_root() / name) for name in run_ids())
    return next((run for run in runs if brief(run).name == recipe.name), None)


def _wait_for_the_lock_of_a_lost_machine(run: RunDirectory) -> None:
    """A run that another machine still holds is either at work there, and then its readings grow,
    or that machine is gone and the file server will let go of its lock. UserError if it does not.
    """
    deadline, size = time.monotonic() + LEASE_SECONDS, _size(run.gpu)
    while (found := holder_anywhere(run.lock)) is not None and not found.is_here:
        if _size(run.gpu) != size:
            return
        if time.monotonic() > deadline:
            raise UserError(
                f"{run.id} is still locked by {found.host.split()[0]}, which has written nothing "
                f"to it for {duration_text(LEASE_SECONDS)}.",
                "If that machine is gone, delete the file `lock` in the run's folder.",
            )
        time.sleep(LOOK_SECONDS)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _check_sources(run: RunDirectory, recipe: Recipe) -> None:
    try:
        before: dict[str, str] = json.loads((run.data / SOURCES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # it has not come to reading its data
    now = source_digests(recipe.data)
    changed = [path for path, digest in now.items() if before.get(path, digest) != digest]
    if changed:
        raise UserError(
            f"{run.id} was begun with other data: {', '.join(changed)} has changed since.",
            "Put the file back, or start a new run under another name.",
        )


def _adopt(run: RunDirectory, before: Recipe, recipe: Recipe) -> None:
    """What may change takes effect; the micro-batch stays what was found to fit."""
    adopted = recipe.model_copy(deep=True)
    adopted.training.micro_batch = before.training.micro_batch
    adopted.training.gradient_accumulation = before.training.gradient_accumulation
    try:
        write_atomically(run.recipe, adopted.to_yaml())
    except OSError as error:
        raise describe_os_error(error, "write the recipe") from error
