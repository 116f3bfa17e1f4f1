"""One training, from the loaded model to the saved result. Imports torch."""

from __future__ import annotations

import gc
import random
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, set_seed
from transformers.utils import logging

from core.data.encoding import encode_prompt
from core.data.prepared import TRAIN, Prepared
from core.data.tokenizer import Tokenizer
from core.errors import UserError
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.runs.identity import Identity, check_same, checkpoint_identity, read_identity
from core.runs.state import Exit
from core.training import pissa
from core.training.adapters import check_method, with_adapter
from core.training.best import Judge, read_judge
from core.training.checkpoints import (
    checkpoint_step,
    checkpoints,
    clear_leftovers,
    is_whole,
    newest_checkpoint,
)
from core.training.choices import Choice
from core.training.kernels import with_kernels
from core.training.loading import load_base, weights_dtype
from core.training.measured import measured, remember_memory
from core.training.objective import objective_loss, trial_loss
from core.training.peaks import memory_peaks
from core.training.preflight import levers
from core.training.ranks import agreed, answers, wait_for_all
from core.training.recovery import at_one_row, halved, is_out_of_memory, record
from core.training.reference import needs_reference, with_reference
from core.training.reporter import Reporter
from core.training.result import copy_result, save_result
from core.training.samples import write_answer
from core.training.settings import schedule, trainer_config
from core.training.settle import Settled, settle, tell, this_machine, with_sizes_of
from core.training.sharding import (
    Sharding,
    loading_for,
    parts_identity,
    sharding,
    sharding_options,
)
from core.training.together import place, shared
from core.training.trackers import PROJECT, prepare_trackers
from core.training.trainer import Tuner
from core.training.watch import StopSwitch, Watch


def train(
    run: RunDirectory,
    recipe: Recipe,
    base: Path,
    tokenizer: Tokenizer,
    prepared: Prepared,
    reporter: Reporter,
) -> Exit | None:
    """Train and save. None when done or stopped, else why it could not go on."""
    reporter.stage("loading")
    logging.set_verbosity_warning()
    set_seed(recipe.training.seed)
    watch = Watch(run, reporter, schedule(recipe, len(prepared.train)), StopSwitch(run))
    watch.machines = recipe.hardware.nodes
    parts = _sharding(recipe, base, prepared)
    watch.identity = checkpoint_identity(recipe, base, run.data / TRAIN)
    watch.identity["hardware.sharding"] = parts_identity(parts, place().world)
    if recipe.training.optimizer == "auto":
        del watch.identity["training.optimizer"]  # goes on with whatever it began with
    begun = _check_unchanged(run, watch.identity).get("training.optimizer")
    _check_method(recipe, base, parts, reporter)
    model, kernels = _load(recipe, base, prepared, parts, watch.plan.total)
    settled = settle(recipe, base, prepared, model, watch.plan.total, kernels, parts, begun)
    watch.identity["training.optimizer"] = settled.recipe.training.optimizer
    tell(run, settled, reporter)
    if needs_reference(recipe):
        prepared = _with_reference(run, prepared, model, _pad_id(tokenizer), reporter)
    checkpoint = _start(run, reporter, watch)
    if recipe.method.name == "pissa":
        pissa.begin(model, run.checkpoints)
    watch.stop.install()
    while True:
        trainer = _make_trainer(run, settled, parts, tokenizer, base, prepared, model, watch)
        if watch.has_stopped_early():
            break
        trainer.args.eval_on_start = checkpoint is None
        smaller = _train_till_memory_ends(trainer, checkpoint, settled.recipe, prepared, watch)
        if smaller is None:
            break
        checkpoint = _newest(run, watch)
        record(run, _with_sizes(recipe, smaller))
        settled = with_sizes_of(run, settled, smaller)
        watch.tell_recovery(smaller.training, trainer.state.global_step)
        del trainer
        _free_memory()
    reporter.write_state()
    _tell_what_it_took(settled.recipe, base, prepared, reporter)
    if watch.failure is None and not watch.stopped:
        _choose_weights(run, trainer, watch)
        weights = trainer.whole_weights()
        if place().writes and (weights is None or place().rank == 0):
            save_result(run, recipe, base, tokenizer, prepared, model, weights)
        wait_for_all()
        if weights is not None and recipe.hardware.nodes > 1:
            copy_result(run, recipe)
    return watch.failure


def _check_method(recipe: Recipe, base: Path, parts: Sharding, reporter: Reporter) -> None:
    """Whether this model has a place for the method, before its weights are loaded."""
    if parts != "ddp" and needs_reference(recipe):
        raise UserError(
            f"{recipe.objective.spec.title} compares with the model as it was, and no process "
            "holds all of it.",
            "Train with lora or qlora, or set hardware.sharding to ddp.",
        )
    experts = check_method(base, recipe.method)
    if experts is not None:
        reporter.warn("experts-untouched", experts, "Use full to train them.")
    spec = recipe.method.spec
    if recipe.merge and not spec.merges:
        reporter.warn(
            "not-mergeable",
            f"{spec.title} cannot be merged into the model: the result is the adapter, which "
            "evaluation and chat use on its base.",
            "For a plain model choose another method, such as lora.",
        )


def _load(
    recipe: Recipe, base: Path, prepared: Prepared, parts: Sharding, steps: int
) -> tuple[Any, Choice]:
    """The model with its adapter and, where they help, faster layers."""

    def load() -> Any:
        with loading_for(parts, weights_dtype(recipe.model.precision)):
            loaded = load_base(base, recipe, sharded=parts != "ddp")
        return with_adapter(loaded, recipe.method, steps)

    if parts != "ddp":
        return load(), Choice("kernels", "none", "not where processes hold parts of the model")
    machine = this_machine(weights_dtype(recipe.model.precision))
    rows = sorted(prepared.train, key=lambda row: row.longest)[:4]
    return with_kernels(recipe, machine, load, partial(trial_loss, rows=rows))


def _with_sizes(asked: Recipe, smaller: Recipe) -> Recipe:
    """What is written into the run's recipe: its micro-batch is settled, the rest stays open."""
    changed = asked.model_copy(deep=True)
    changed.training.micro_batch = smaller.training.micro_batch
    changed.training.gradient_accumulation = smaller.training.gradient_accumulation
    changed.training.batch = None
    return changed


def _with_reference(
    run: RunDirectory, prepared: Prepared, model: Any, pad: int, reporter: Reporter
) -> Prepared:
    def told(done: int, rows: int) -> None:
        reporter.progress("what the base says to each answer", done, rows, "rows")

    return with_reference(run, prepared, model, pad, told)


def _tell_what_it_took(recipe: Recipe, base: Path, prepared: Prepared, reporter: Reporter) -> None:
    """For the report of a trial, and for the next plan on this machine.

    Plans are for one device: what several did together would look too fast for it.
    """
    reporter.tell("memory", **memory_peaks())
    if not place().alone or not recipe.objective.spec.is_of_tokens:
        return  # plans are made for supervised training
    checkpointing = recipe.training.gradient_checkpointing is True
    if facts := measured(recipe, base, prepared, gradient_checkpointing=checkpointing):
        reporter.tell("measured", **facts)


def _choose_weights(run: RunDirectory, trainer: Tuner, watch: Watch) -> None:
    """The last weights, unless those of the best checkpoint are better beyond the noise."""
    step = watch.judge.last.step if watch.judge.last else trainer.state.global_step
    best = run.checkpoints / f"checkpoint-{watch.best_step}"
    if watch.judge.earlier_is_better() and not agreed(not is_whole(best))[0]:
        trainer.take_weights(best)
        step = checkpoint_step(best)
    watch.tell_choice(step)


def _train_till_memory_ends(
    trainer: Tuner, checkpoint: Path | None, recipe: Recipe, prepared: Prepared, watch: Watch
) -> Recipe | None:
    """Train to the end, or to where memory does not suffice: then the recipe to go on with.

    At one row at a time there is none; the watch then knows of the failure.
    """
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error) or not place().alone:
            raise  # where several train together, the launcher starts them again
        smaller = halved(recipe)
        if smaller is None:
            traceback.print_exc()
            watch.failure = at_one_row(error, levers(recipe, prepared))
            return None
        trainer.save_where_it_broke()
        return smaller
    return None


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _start(run: RunDirectory, reporter: Reporter, watch: Watch) -> Path | None:
    """Say that training begins, and where: the checkpoint to go on from, if there is one."""
    run.checkpoints.mkdir(exist_ok=True)
    if place().writes:
        clear_leftovers(run)
    wait_for_all()
    checkpoint = _newest(run, watch)
    step = checkpoint_step(checkpoint) if checkpoint else 0
    reporter.stage("training", step=step, total_steps=watch.plan.total)
    return checkpoint


def _check_unchanged(run: RunDirectory, now: Identity) -> Identity:
    """What the newest checkpoint is bound to; UserError with the difference when that is another
    recipe."""
    checkpoint = newest_checkpoint(run)
    if checkpoint is None:
        return {}
    before = read_identity(checkpoint)
    check_same(before, now, checkpoint.name)
    return before


def _newest(run: RunDirectory, watch: Watch) -> Path | None:
    """The checkpoint to go on from; the watch remembers what it knew then."""
    checkpoint = _common_checkpoint(run)
    watch.judge = read_judge(checkpoint) if checkpoint else Judge()
    return checkpoint


def _common_checkpoint(run: RunDirectory) -> Path | None:
    """The newest that is whole on every machine of the run. UserError where they have nothing in
    common: some would begin anew, and the others in the middle."""
    if place().alone:
        return newest_checkpoint(run)
    everybody = answers([checkpoint_step(path) for path in checkpoints(run) if is_whole(path)])
    common = set.intersection(*map(set, everybody))
    if common:
        return run.checkpoints / f"checkpoint-{max(common)}"
    if any(everybody):
        raise UserError(
            "The machines of this run have no checkpoint in common.",
            "Copy checkpoints/ from the run directory of one of them to the others.",
        )
    return None


def _make_trainer(
    run: RunDirectory,
    settled: Settled,
    parts: Sharding,
    tokenizer: Tokenizer,
    base: Path,
    prepared: Prepared,
    model: Any,
    watch: Watch,
) -> Tuner:
    recipe, plan = settled.recipe, watch.plan
    choices = _hardware_choices(settled, parts, model)
    prepare_trackers(run, recipe.training.trackers)
    rows = plan.evaluation_rows(len(prepared.eval), recipe.training.effective_batch)
    held_out = random.Random(recipe.training.seed).sample(prepared.eval, rows)
    watch.write_sample = lambda step: _sample(watch, step, model, tokenizer, prepared)
    trainer = Tuner(
        run=run,
        keep_checkpoints=recipe.training.keep_checkpoints,
        train=prepared.train,
        held_out=held_out,
        objective=objective_loss(recipe.objective, prepared.train),
        pad=_pad_id(tokenizer),
        method=recipe.method,
        packed=settled.packed,
        watch=watch,
        model=model,
        args=trainer_config(
            shared(recipe, place().world), plan, run.checkpoints, run_name=run.id, **choices
        ),
        processing_class=_transformers_tokenizer(base),
    )
    watch.probe = partial(_probed_and_kept, watch.probe, settled, base)
    return trainer


def _probed_and_kept(
    probe: Callable[[], dict[str, float | int]], settled: Settled, base: Path
) -> dict[str, float | int]:
    """What the probe found, which the next prediction for this GPU will know."""
    found = probe()
    remember_memory(found, settled.recipe, base, gradient_checkpointing=settled.checkpointing)
    return found


def _hardware_choices(settled: Settled, parts: Sharding, model: Any) -> dict[str, Any]:
    """What follows from the device: fp16 needs a loss scaler, and memory is traded for time."""
    on_gpu = torch.cuda.is_available()
    return {
        "bf16": False,  # the weights are in bf16 already; autocast would only add copies
        "fp16": on_gpu and model.dtype is torch.float16,
        "use_cpu": not on_gpu,
        "project": PROJECT,
        "save_on_each_node": settled.recipe.hardware.nodes > 1 and parts == "ddp",
        "dataloader_pin_memory": on_gpu,
        **sharding_options(
            parts,
            checkpointing=settled.checkpointing,
            precision=settled.recipe.model.precision,
        ),
    }


def _sharding(recipe: Recipe, base: Path, prepared: Prepared) -> Sharding:
    """A copy of the model in each process, or a part: the same answer in all of them."""
    if place().alone:
        return "ddp"
    on_gpu = torch.cuda.is_available()
    memory = torch.cuda.mem_get_info()[1] if on_gpu else None
    chosen = sharding(recipe, base, prepared, memory)
    return "fsdp" if agreed(chosen == "fsdp")[0] else chosen


def _transformers_tokenizer(base: Path) -> Any:
    """TRL asks for one, though our rows are encoded already."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _pad_id(tokenizer: Tokenizer) -> int:
    """Any id will do: padding stands on the right, where no trained token looks."""
    known = (tokenizer.pad_id, tokenizer.eos_id, 0)
    return next(value for value in known if value is not None)


def _sample(watch: Watch, step: int, model: Any, tokenizer: Tokenizer, prepared: Prepared) -> None:
    if not prepared.held_out:
        return
    asked = prepared.held_out[0]
    prompt = encode_prompt(list(asked.messages), tokenizer, asked.tools)
    answer = write_answer(model, prompt, tokenizer.stop_ids)
    watch.tell_sample(step, asked.messages[-1]["content"], tokenizer.decode(answer))
