"""From a recipe to the numbers of one run: steps, intervals, and TRL's own configuration."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.data.prepared import Prepared
from core.recipe import Recipe
from core.runs.trial import RealRun
from core.training.best import stops_early

if TYPE_CHECKING:
    from trl import SFTConfig

EVALUATIONS = 10
TRIAL_STEPS = 8
EVALUATION_SHARE = 0.1
FORWARD_SHARE = 1 / 3
MIN_EVALUATION_ROWS = 32

OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw-8bit": "adamw_bnb_8bit",
    "paged-adamw-8bit": "paged_adamw_8bit",
    "sgd": "sgd",
}


@dataclass(frozen=True, slots=True)
class Schedule:
    """When what happens, in optimiser steps."""

    total: int
    warmup: int
    evaluate_every: int
    save_every: int
    save_seconds: float = math.inf
    patience: int = 0  # evaluations in a row that are clearly worse than the best; 0: no limit

    def evaluation_rows(self, held_out: int, effective_batch: int) -> int:
        """Held-out rows measured at a time, so that measuring takes a tenth of the run at most."""
        times = self.total // self.evaluate_every + 1
        trained = self.total * effective_batch
        affordable = int(trained * EVALUATION_SHARE / FORWARD_SHARE / times)
        return min(held_out, max(affordable, MIN_EVALUATION_ROWS))


def schedule(recipe: Recipe, rows: int) -> Schedule:
    """The steps that `rows` rows make. The last batch of an epoch may be smaller."""
    training = recipe.training
    an_epoch = math.ceil(rows / training.effective_batch)
    total = math.ceil(training.epochs * an_epoch)
    if training.max_steps is not None:
        total = min(total, training.max_steps)
    if recipe.trial:
        return _trial_schedule(min(total, TRIAL_STEPS))
    evaluate_every = training.eval_steps or max(1, math.ceil(total / EVALUATIONS))
    return Schedule(
        total=total,
        warmup=math.ceil(training.warmup * total),
        evaluate_every=evaluate_every,
        save_every=training.save_steps or evaluate_every,
        save_seconds=math.inf if training.save_minutes is None else 60 * training.save_minutes,
        patience=training.patience if stops_early(training.early_stopping, rows) else 0,
    )


def _trial_schedule(total: int) -> Schedule:
    """Everything once: an evaluation and a checkpoint in the middle."""
    middle = max(1, math.ceil(total / 2))
    return Schedule(total=total, warmup=0, evaluate_every=middle, save_every=middle)


def real_run(recipe: Recipe, prepared: Prepared) -> RealRun:
    """What the run consists of that `recipe` is a trial for. `prepared`: all of its rows."""
    recipe = recipe.model_copy(update={"trial": False})
    batch = recipe.training.effective_batch
    rows = len(prepared.train)
    plan = schedule(recipe, rows)
    return RealRun(
        steps=plan.total,
        tokens=round(
            prepared.ledger.train_tokens * min(plan.total * batch / rows, _epochs(recipe))
        ),
        evaluations=plan.total // plan.evaluate_every + 1,
        evaluation_rows=plan.evaluation_rows(len(prepared.eval), batch),
        checkpoints=plan.total // plan.save_every,
        answers=min(recipe.evaluation.rows, len(prepared.held_out)),
        dollars_per_hour=recipe.hardware.dollars_per_hour,
    )


def _epochs(recipe: Recipe) -> float:
    """The last batch of an epoch may be smaller: the steps alone would count too many rows."""
    return math.inf if recipe.training.max_steps else recipe.training.epochs


def trainer_config(recipe: Recipe, plan: Schedule, folder: Path, **choices: Any) -> SFTConfig:
    """TRL's configuration. When to log, evaluate and save is decided in our own callback."""
    from trl import SFTConfig

    training = recipe.training
    return SFTConfig(
        output_dir=str(folder),
        max_steps=plan.total,
        per_device_train_batch_size=training.micro_batch,
        gradient_accumulation_steps=training.gradient_accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.schedule,
        warmup_steps=plan.warmup,
        optim=OPTIMIZERS[training.optimizer],
        weight_decay=training.weight_decay,
        max_grad_norm=training.max_grad_norm,
        seed=training.seed,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        prediction_loss_only=True,
        report_to=training.trackers or "none",
        disable_tqdm=True,
        remove_unused_columns=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        **choices,
    )
