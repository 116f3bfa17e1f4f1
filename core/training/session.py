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
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.runs.identity import Identity, check_same, checkpoint_identity, read_identity
from core.runs.state import Exit
from core.training.adapters import with_adapter
from core.training.best import Judge, read_judge
from core.training.checkpoints import (
    checkpoint_step,
    clear_leftovers,
    is_whole,
    newest_checkpoint,
)
from core.training.loading import load_base
from core.training.measured import measured, remember_memory
from core.training.peaks import memory_peaks
from core.training.preflight import levers, wants_checkpointing
from core.training.recovery import at_one_row, halved, is_out_of_memory, record
from core.training.reporter import Reporter
from core.training.result import save_result
from core.training.samples import write_answer
from core.training.settings import schedule, trainer_config
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
    watch.identity = checkpoint_identity(recipe, base, run.data / TRAIN)
    _check_unchanged(run, watch.identity)
    model = with_adapter(load_base(base, recipe), recipe.method, watch.plan.total)
    checkpoint = _start(run, reporter, watch)
    watch.stop.install()
    while True:
        trainer = _make_trainer(run, recipe, base, tokenizer, prepared, model, watch)
        if watch.has_stopped_early():
            break
        trainer.args.eval_on_start = checkpoint is None
        smaller = _train_till_memory_ends(trainer, checkpoint, recipe, prepared, watch)
        if smaller is None:
            break
        recipe, checkpoint = smaller, _newest(run, watch)
        record(run, recipe)
        watch.tell_recovery(recipe.training, trainer.state.global_step)
        del trainer
        _free_memory()
    reporter.write_state()
    _tell_what_it_took(recipe, base, prepared, trainer, reporter)
    if watch.failure is None and not watch.stopped:
        _choose_weights(run, trainer, watch)
        save_result(run, recipe, base, tokenizer, prepared, model)
    return watch.failure


def _tell_what_it_took(
    recipe: Recipe, base: Path, prepared: Prepared, trainer: Tuner, reporter: Reporter
) -> None:
    """For the report of a trial, and for the next plan on this machine."""
    reporter.tell("memory", **memory_peaks())
    checkpointing = bool(trainer.model.is_gradient_checkpointing)
    if facts := measured(recipe, base, prepared, gradient_checkpointing=checkpointing):
        reporter.tell("measured", **facts)


def _choose_weights(run: RunDirectory, trainer: Tuner, watch: Watch) -> None:
    """The last weights, unless those of the best checkpoint are better beyond the noise."""
    step = watch.judge.last.step if watch.judge.last else trainer.state.global_step
    best = run.checkpoints / f"checkpoint-{watch.best_step}"
    if watch.judge.earlier_is_better() and is_whole(best):
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
        if not is_out_of_memory(error):
            raise
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
    clear_leftovers(run)
    checkpoint = _newest(run, watch)
    step = checkpoint_step(checkpoint) if checkpoint else 0
    reporter.stage("training", step=step, total_steps=watch.plan.total)
    return checkpoint


def _check_unchanged(run: RunDirectory, now: Identity) -> None:
    """UserError with the difference when the newest checkpoint is another recipe's."""
    checkpoint = newest_checkpoint(run)
    if checkpoint is not None:
        check_same(read_identity(checkpoint), now, checkpoint.name)


def _newest(run: RunDirectory, watch: Watch) -> Path | None:
    """The checkpoint to go on from; the watch remembers what it knew then."""
    checkpoint = newest_checkpoint(run)
    watch.judge = read_judge(checkpoint) if checkpoint else Judge()
    return checkpoint


def _make_trainer(
    run: RunDirectory,
    recipe: Recipe,
    base: Path,
    tokenizer: Tokenizer,
    prepared: Prepared,
    model: Any,
    watch: Watch,
) -> Tuner:
    pad = _pad_id(tokenizer)
    plan = watch.plan
    choices = _hardware_choices(recipe, base, prepared, model)
    rows = plan.evaluation_rows(len(prepared.eval), recipe.training.effective_batch)
    held_out = random.Random(recipe.training.seed).sample(prepared.eval, rows)
    watch.write_sample = lambda step: _sample(watch, step, model, tokenizer, prepared, pad)
    trainer = Tuner(
        run=run,
        keep_checkpoints=recipe.training.keep_checkpoints,
        train=prepared.train,
        held_out=held_out,
        pad=pad,
        watch=watch,
        model=model,
        args=trainer_config(recipe, plan, run.checkpoints, **choices),
        processing_class=_transformers_tokenizer(base),
    )
    watch.probe = partial(_probed_and_kept, watch.probe, recipe, base, choices)
    return trainer


def _probed_and_kept(
    probe: Callable[[], dict[str, float | int]],
    recipe: Recipe,
    base: Path,
    choices: dict[str, Any],
) -> dict[str, float | int]:
    """What the probe found, which the next prediction for this GPU will know."""
    found = probe()
    checkpointing = bool(choices["activation_checkpointing"])
    remember_memory(found, recipe, base, gradient_checkpointing=checkpointing)
    return found


def _hardware_choices(recipe: Recipe, base: Path, prepared: Prepared, model: Any) -> dict[str, Any]:
    """What follows from the device: fp16 needs a loss scaler, and memory is traded for time."""
    on_gpu = torch.cuda.is_available()
    # The weights are loaded already: what they take is part of the prediction.
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() if on_gpu else None
    return {
        "bf16": False,  # the weights are in bf16 already; autocast would only add copies
        "fp16": on_gpu and model.dtype is torch.float16,
        "use_cpu": not on_gpu,
        "dataloader_pin_memory": on_gpu,
        "activation_checkpointing": wants_checkpointing(recipe, base, prepared, free),
    }


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


def _sample(
    watch: Watch, step: int, model: Any, tokenizer: Tokenizer, prepared: Prepared, pad: int
) -> None:
    if not prepared.held_out:
        return
    asked = prepared.held_out[0]
    prompt = encode_prompt(list(asked.messages), tokenizer, asked.tools)
    answer = write_answer(model, prompt, tokenizer.stop_ids, pad)
    watch.tell_sample(step, asked.messages[-1]["content"], tokenizer.decode(answer))
