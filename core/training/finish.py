"""The stage after training, in a fresh process: merge, prove the merge, measure base and tuned.

    python -P -m core.training.finish RUN_DIRECTORY

Started again, it goes on with what is missing. Exit code 0 when done, or when asked to end (the
phase is then `stopping`), 1 with an `error` event.
"""

from __future__ import annotations

import sys
import traceback
from dataclasses import asdict
from pathlib import Path

from core.data.prepared import Prepared, load_prepared
from core.errors import UserError
from core.models.locate import locate
from core.recipe import Recipe, load_recipe
from core.runs.diagnosis import explain
from core.runs.directory import RunDirectory
from core.runs.lifeline import watch_keeper
from core.runs.trial import write_trial
from core.training.device import prepare_environment
from core.training.interruption import Interrupted, raise_when_asked_to_end
from core.training.peaks import memory_peaks
from core.training.reporter import Reporter
from core.training.settings import real_run
from core.training.trial import cut, shortened


def main(arguments: list[str]) -> int:
    raise_when_asked_to_end()
    watch_keeper()
    run = RunDirectory(Path(arguments[0]))
    reporter = Reporter(run)
    try:
        finish(run, reporter)
    except Interrupted:
        reporter.phase("stopping")
    except Exception as error:  # noqa: BLE001 - whatever it is, the run must say why it ended
        traceback.print_exc()
        reporter.fail(explain(error))
        return 1
    return 0


def finish(run: RunDirectory, reporter: Reporter) -> None:
    """Merge and evaluate as the recipe asks, leaving out what is there already."""
    recipe = load_recipe(run.recipe)
    prepare_environment(recipe.hardware.one_gpu)
    if recipe.ends_with_merge:
        reporter.stage("merging")
    base = locate(recipe.model.id, recipe.model.revision, reporter.progress)
    prepared = load_prepared(run.data)
    make_merged(run, recipe, base, prepared, reporter)
    if recipe.evaluation.enabled:
        reporter.stage("evaluating")
        _evaluate(run, recipe, base, prepared, reporter)
    if recipe.trial:
        _report_trial(run, recipe, prepared, reporter)


def _report_trial(
    run: RunDirectory, recipe: Recipe, prepared: Prepared, reporter: Reporter
) -> None:
    reporter.tell("memory", **memory_peaks())
    report = write_trial(run, real_run(recipe, prepared))
    if report is not None:
        reporter.tell("trial", **asdict(report))


def make_merged(
    run: RunDirectory, recipe: Recipe, base: Path, prepared: Prepared, reporter: Reporter
) -> None:
    """merged/ where the recipe wants it and it is missing, and the training has not written it."""
    if not recipe.method.spec.has_adapter:
        _check_trained(run)
        return
    if not recipe.ends_with_merge or (run.merged / "config.json").is_file():
        return
    from core.inference.loading import quiet_transformers
    from core.training.merge import merge

    quiet_transformers()
    # Held-out rows, where there are any: the proof should not lean on what was learned by heart.
    rows = (prepared.eval or prepared.train)[:8]
    proof = merge(run, recipe, base, [row.input_ids for row in rows])
    reporter.tell("merge", **asdict(proof))


def _check_trained(run: RunDirectory) -> None:
    from core.inference.loading import check_model_folder

    if not run.merged.is_dir():
        raise UserError("The trained model is missing: there is no merged/.", "Resume the run.")
    check_model_folder(run.merged)


def _evaluate(
    run: RunDirectory, recipe: Recipe, base: Path, prepared: Prepared, reporter: Reporter
) -> None:
    if not prepared.eval:
        reporter.warn(
            "no-held-out-rows",
            "Nothing was measured: no rows were held out.",
            "Set data.eval or a data.eval_fraction above 0.",
        )
        return
    from core.evaluation.evaluate import evaluate
    from core.inference.loading import quiet_transformers

    quiet_transformers()
    if recipe.trial:
        recipe = shortened(recipe)
        prepared = cut(prepared, recipe.training.effective_batch, recipe.training.seed)
    evaluate(run, recipe, base, prepared, reporter.tell, only_missing=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
