"""One of the processes that train together. torchrun starts it; the launcher has prepared the run.

    python -P -m torch.distributed.run … --module core.training.rank RUN_DIRECTORY

What goes wrong in it is left in a file for the launcher, who alone speaks of the end.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from core.data.prepared import load_prepared
from core.data.tokenizer import load_tokenizer
from core.models.locate import locate
from core.recipe import load_recipe
from core.runs.diagnosis import explain
from core.runs.directory import RunDirectory
from core.runs.lifeline import end_with_launcher
from core.runs.state import Exit
from core.secrets import guard_output
from core.training.device import quieten
from core.training.failures import note_failure, rank_log
from core.training.ranks import join
from core.training.reporter import Reporter, Silence
from core.training.together import place
from core.training.trial import cut


def main(arguments: list[str]) -> int:
    end_with_launcher()
    guard_output()
    run = RunDirectory(Path(arguments[0]))
    here = place()
    if not here.writes:
        _write_to(rank_log(run, here))
    reporter = Reporter(run) if here.writes else Silence(run)
    try:
        reason = _train(run, reporter)
    except Exception as error:  # noqa: BLE001 - whatever it is, the launcher must learn of it
        traceback.print_exc()
        reason = explain(error)
    if reason is not None:
        note_failure(run, here, reason)
        return 1
    return 0


def _train(run: RunDirectory, reporter: Reporter) -> Exit | None:
    recipe = load_recipe(run.recipe)
    quieten()
    base = locate(recipe.model.id, recipe.model.revision)
    tokenizer = load_tokenizer(base)
    prepared = load_prepared(run.data)
    if recipe.trial:
        prepared = cut(prepared, recipe.training.effective_batch, recipe.training.seed)
    join()
    from core.training.session import train

    return train(run, recipe, base, tokenizer, prepared, reporter)


def _write_to(path: Path) -> None:
    """Our output goes into a file of our own: the log of the run is the first process's."""
    path.parent.mkdir(exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
