"""The training stage of a run: find the model, encode the data, load, train, save.

    python -P -m core.training.worker RUN_DIRECTORY

Started again, it uses the rows that lie in the run and goes on from the newest whole checkpoint.
Exit code 0 when trained or stopped (the phase is then `stopping`), 1 with an `error` event.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from functools import partial
from pathlib import Path

from core.data.prepared import Ledger, is_prepared, load_prepared, prepare
from core.data.problems import KINDS, OF_FILES
from core.data.rows import Progress
from core.data.tokenizer import load_tokenizer
from core.errors import describe_os_error
from core.hardware.readings import read_machine
from core.models.locate import locate
from core.recipe import Recipe, load_recipe
from core.runs.diagnosis import explain
from core.runs.directory import RunDirectory, write_atomically
from core.runs.identity import SOURCES, source_digests
from core.runs.lifeline import watch_keeper
from core.runs.nodes import node_of, read_node
from core.runs.state import Exit
from core.secrets import guard_output
from core.training.device import prepare_environment
from core.training.launch import train_together
from core.training.preflight import NO_ROWS_YET, check_disk, check_memory, check_merge
from core.training.reporter import Reporter
from core.training.sharding import check_sharding
from core.training.together import crew, shared
from core.training.trackers import check_trackers
from core.training.trial import cut


def main(arguments: list[str]) -> int:
    watch_keeper()
    guard_output()
    run = RunDirectory(Path(arguments[0]))
    reporter = Reporter(run)
    try:
        recipe = load_recipe(run.recipe)
        if not is_trained(run, recipe):
            reason = work(run, recipe, reporter)
            if reason is not None:
                reporter.fail(reason)
                return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the run must say why it ended
        traceback.print_exc()
        reporter.fail(explain(error))
        return 1
    return 0


def work(run: RunDirectory, recipe: Recipe, reporter: Reporter) -> Exit | None:
    """Everything up to the saved result. What needs no torch comes first, so as to fail early."""
    team = crew(recipe.hardware, read_machine())
    node = read_node(run)
    if node is None and recipe.hardware.nodes > 1:
        node_of(recipe, None, None)  # says how it is started
    world = team.count * (recipe.hardware.nodes if node else 1)
    shared(recipe, world)
    check_sharding(recipe, team, world)
    check_trackers(recipe)
    prepare_environment(recipe.hardware.one_gpu)
    reporter.stage("downloading")
    base = locate(recipe.model.id, recipe.model.revision, reporter.progress)
    machine = read_machine()
    check_disk(run, recipe, base, NO_ROWS_YET)
    check_memory(recipe, base, NO_ROWS_YET, machine, team.gpus, world)
    check_merge(recipe, base, machine)
    reporter.stage("encoding")
    tokenizer = load_tokenizer(base)
    if is_prepared(run.data):
        prepared = load_prepared(run.data)
    else:
        _note_sources(run, recipe)
        prepared = prepare(recipe, tokenizer, run.data, partial(_tell_encoding, reporter))
        _tell_rows(reporter, prepared.ledger)
    check_memory(recipe, base, prepared, read_machine(), team.gpus, world)
    if world > 1:
        return train_together(run, recipe, team, node, reporter)
    if recipe.trial:
        prepared = cut(prepared, recipe.training.effective_batch, recipe.training.seed)
    reporter.stage("importing")
    _quieten_libraries()
    from core.training.session import train  # torch and all that

    return train(run, recipe, base, tokenizer, prepared, reporter)


def _note_sources(run: RunDirectory, recipe: Recipe) -> None:
    """What the files held that this run learns from: another session can tell if they change."""
    digests = source_digests(recipe.data)
    try:
        run.data.mkdir(exist_ok=True)
        write_atomically(run.data / SOURCES, json.dumps(digests, indent=1))
    except OSError as error:
        raise describe_os_error(error, "write to the run directory") from error


def _tell_rows(reporter: Reporter, ledger: Ledger) -> None:
    """Where the rows went, and what was not read."""
    reporter.tell(
        "rows",
        rows=ledger.rows,
        train=ledger.train_rows,
        held_out=ledger.eval_rows,
        left_out=ledger.left_out,
        eval_source=ledger.eval_source,
        train_tokens=ledger.train_tokens,
        trained_tokens=ledger.trained_tokens,
    )
    for code, message in ledger.unread.items():
        reporter.warn(code, message, "" if code in OF_FILES else KINDS[code].remedy)


def _quieten_libraries() -> None:
    """The log is read by people: no notes from one library to another."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _tell_encoding(reporter: Reporter, progress: Progress) -> None:
    if progress.total_bytes:
        reporter.progress("reading rows", progress.bytes, progress.total_bytes)
    else:
        reporter.progress("reading rows", progress.rows, None, "rows")


def is_trained(run: RunDirectory, recipe: Recipe) -> bool:
    """Whether the training's result is there; it is put in its place in one step."""
    place = run.adapter if recipe.method.spec.has_adapter else run.merged
    return place.is_dir()


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # taking torch apart in good order takes seconds and serves nobody
