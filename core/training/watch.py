"""The callback: what a training tells, obeys and refuses to go on with."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from core.recipe import TrainingSection
from core.runs.diagnosis import explain
from core.runs.directory import RunDirectory
from core.runs.identity import Identity, write_identity
from core.runs.state import Exit
from core.training.alarms import Alarm, Alarms
from core.training.best import Evaluation, Judge
from core.training.ranks import agreed
from core.training.reporter import Reporter
from core.training.settings import Schedule
from core.training.together import place

NAN_LIMIT = 3
INTENTS = ("checkpoint", "evaluate", "sample")


class StopSwitch:
    """Turned by SIGTERM, SIGINT or the `stop` intent; looked at after every step."""

    def __init__(self, run: RunDirectory) -> None:
        self._file = run.control / "stop"
        self._signalled = False

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True

    def __call__(self) -> bool:
        return self._signalled or self._file.exists()


class Watch(TrainerCallback):  # type: ignore[misc]
    """Events for every step; intents, evaluation and checkpoints when they are due."""

    def __init__(
        self, run: RunDirectory, reporter: Reporter, plan: Schedule, stop: StopSwitch
    ) -> None:
        self._run = run
        self._reporter = reporter
        self.plan = plan
        self.stop = stop
        self.machines = 1
        self.judge = Judge()
        self.identity: Identity = {}
        self._saved_at = time.monotonic()
        self._began = 0.0
        self._step_seconds = 0.0
        self._nan_steps = 0
        self._alarms = Alarms(plan.total)
        self.failure: Exit | None = None
        self.stopped = False
        self.step_tokens: Callable[[], int] = lambda: 0
        self.step_measures: Callable[[], dict[str, float]] = dict
        self.probe: Callable[[], dict[str, float | int]] = dict
        self.write_sample: Callable[[int], None] = lambda step: None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        found = self.probe()
        if found:
            self._reporter.tell("probe", step=state.global_step, **found)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        self._began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        self._step_seconds = time.monotonic() - self._began
        state.num_input_tokens_seen += self.step_tokens()
        step = state.global_step
        last = step >= self.plan.total
        control.should_log = True
        control.should_evaluate = step % self.plan.evaluate_every == 0 or last
        stop, save, evaluate, sample, due = agreed(
            self.stop(), *map(self._intent, INTENTS), self._save_is_due()
        )
        control.should_save = ((step % self.plan.save_every == 0 or due) and not last) or save
        control.should_evaluate |= evaluate
        if sample:
            self.write_sample(step)
        if stop and not last:
            self.stopped = True
            control.should_evaluate = False
            control.should_save = True
            control.should_training_stop = True
            self._reporter.phase("stopping")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **rest: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return  # the summary at the end
        tokens = self.step_tokens()
        loss = float(logs["loss"])
        self._reporter.tell(
            "log",
            step=state.global_step,
            epoch=round(float(state.epoch or 0), 4),
            loss=loss,
            lr=logs.get("learning_rate"),
            grad_norm=logs.get("grad_norm"),
            tokens=int(state.num_input_tokens_seen),
            tokens_per_s=round(tokens / max(self._step_seconds, 1e-9), 1),
            step_seconds=round(self._step_seconds, 4),
            **self.step_measures(),
        )
        self._reporter.update(step=state.global_step, loss=loss)
        self._warn(self._alarms.step(state.global_step, loss, logs.get("grad_norm")))
        self._check_loss(loss, float(logs.get("grad_norm") or 0.0), state, control)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, Any] | None = None,
        **rest: Any,
    ) -> None:
        if not metrics:
            return
        loss = metrics["eval_loss"]
        self._reporter.tell(
            "eval",
            step=state.global_step,
            epoch=round(float(state.epoch or 0), 4),
            loss=loss,
            rows=int(metrics["eval_rows"]),
            **metrics.get("measures", {}),
        )
        self._reporter.update(eval_loss=loss)
        sums, tokens = metrics.get("row_sums", ()), metrics.get("row_tokens", ())
        rows = Evaluation(state.global_step, sums, tokens)
        self._warn(self._alarms.evaluation(rows, loss))
        if state.global_step > 0 and sums:
            self._judge(rows, control)

    def _judge(self, evaluation: Evaluation, control: TrainerControl) -> None:
        """Keep what is best so far, and end what only gets worse.

        Without early stopping only those steps are in question that are saved anyway.
        """
        last = evaluation.step >= self.plan.total
        if not (self.plan.patience or control.should_save or last):
            return
        verdict = self.judge.judge(evaluation)
        if verdict == "best" and not last:
            control.should_save = True
        if self.has_stopped_early() and not last:
            control.should_training_stop = True

    def has_stopped_early(self) -> bool:
        """Whether patience is over: now, or before this run died without its result."""
        return 0 < self.plan.patience <= self.judge.worse_in_a_row

    def measures(self) -> None:
        """A sign of life in the middle of an evaluation, which may take long."""
        self._reporter.update()

    def _save_is_due(self) -> bool:
        return time.monotonic() - self._saved_at >= self.plan.save_seconds

    def _warn(self, alarms: list[Alarm]) -> None:
        for alarm in alarms:
            self._reporter.warn(alarm.code, alarm.message, alarm.remedy)

    def complete_checkpoint(self, folder: Path) -> None:
        """What a later session needs beside weights and optimiser."""
        self.judge.write(folder)
        write_identity(folder, self.identity)

    def saved(self, step: int, path: Path) -> None:
        """A checkpoint is in its place; whoever reads the state now learns of its step too."""
        self._saved_at = time.monotonic()
        self._reporter.write_state()
        self._reporter.tell("checkpoint", step=step, path=str(path))

    def not_saved(self, step: int, cause: Exit) -> None:
        """A checkpoint could not be written. Training goes on: the ones before it are whole.

        A run that was about to stop has lost its last steps then, and ends as failed.
        """
        self._saved_at = time.monotonic()
        self.judge.lost(step)
        message = f"A checkpoint could not be saved. {cause.message}"
        if self.stopped:
            self.failure = Exit(cause.code, message, cause.remedy)
        else:
            self._reporter.warn(cause.code, message, cause.remedy)

    @property
    def best_step(self) -> int | None:
        """The step of the best checkpoint so far."""
        return None if self.judge.best is None else self.judge.best.step

    def tell_choice(self, step: int) -> None:
        """Which step's weights become the result, and by how much the last were worse or not."""
        last, best = self.judge.last, self.judge.best
        if last is None or best is None:
            return
        early = self.has_stopped_early() and last.step < self.plan.total
        if early:
            self._reporter.warn(
                "early-stopping",
                f"Training ended at step {last.step} of {self.plan.total}: the held-out loss was "
                f"clearly above its best ({best.loss:.4f} at step {best.step}) "
                f"{self.judge.worse_in_a_row} times in a row.",
                f"The result is the checkpoint of step {step}. training.early_stopping: false "
                "trains on regardless.",
            )
        noise = last.noise(best)
        # from now on the run's held-out loss is that of its result, as all that follows is
        self._reporter.update(eval_loss=(best if step == best.step else last).loss)
        self._reporter.write_state()
        self._reporter.tell(
            "choice",
            step=step,
            last_step=last.step,
            last_loss=last.loss,
            best_step=best.step,
            best_loss=best.loss,
            noise=noise if math.isfinite(noise) else None,
            stopped_early=early,
        )

    def tell_recovery(self, training: TrainingSection, step: int) -> None:
        """The memory did not suffice; the same steps go on in smaller parts."""
        self._reporter.warn(
            "out-of-memory-recovered",
            f"The memory did not suffice for step {step + 1}. Going on with "
            f"{training.micro_batch} rows at a time, {training.gradient_accumulation} times a "
            "step: the same rows in every step, in the same order.",
            "For more speed lower data.max_length, or use qlora.",
        )

    def tell_tracker_failed(self, name: str, error: Exception) -> None:
        self._reporter.warn(
            "tracker-failed",
            f"{name} failed and is left out from now on: {explain(error).message}",
            "Training goes on; the run's own events are complete.",
        )

    def tell_sample(self, step: int, prompt: str, text: str) -> None:
        self._reporter.tell("sample", step=step, prompt=prompt, text=text)

    def _intent(self, name: str) -> bool:
        """Whether somebody left this intent; it is taken up by being deleted."""
        if not place().writes:
            return False
        try:
            (self._run.control / name).unlink()
        except OSError:
            return False
        return True

    def _check_loss(
        self, loss: float, grad_norm: float, state: TrainerState, control: TrainerControl
    ) -> None:
        if math.isfinite(loss) and math.isfinite(grad_norm):
            self._nan_steps = 0
            return
        self._nan_steps += 1
        control.should_save = False  # what is on disk is better than what is in memory
        if self._nan_steps == 1:
            self._reporter.warn(
                "nan-loss",
                f"The loss or its gradient is not a number at step {state.global_step}.",
                "If it stays so, the run ends; a lower learning rate is the usual cure.",
            )
        if self._nan_steps >= NAN_LIMIT:
            self.failure = Exit(
                "nan-loss",
                f"The loss was not a number {NAN_LIMIT} times in a row, up to step "
                f"{state.global_step}; the last good checkpoint is kept.",
                "Lower training.learning_rate (a third of it), or set model.precision to bf16 "
                "or fp32.",
            )
            control.should_evaluate = False
            control.should_training_stop = True
