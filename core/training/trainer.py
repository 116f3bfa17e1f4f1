"""TRL's SFTTrainer with our loss, our order of rows, and checkpoints written whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors import SafetensorError
from torch import Tensor
from transformers import PrinterCallback
from transformers.integrations.deepspeed import deepspeed_load_checkpoint
from trl import SFTTrainer

from core.data.encoding import IGNORED
from core.data.training_rows import TokenRow, as_tree, row_of
from core.memory.setup import FUSED_FROM_LOGITS
from core.recipe import MethodSection
from core.runs.causes import known_cause
from core.runs.directory import RunDirectory
from core.runs.state import Exit
from core.training.adalora import RankMover, penalty
from core.training.adapters import in_base_precision
from core.training.batches import BatchOrder, by_length, collate, filler
from core.training.checkpoints import clear_leftovers, prune, publish, saving_folder
from core.training.copying import copy_to_all
from core.training.loss import labelled_tokens
from core.training.modes import measuring
from core.training.objective import (
    Batch,
    Measures,
    ObjectiveLoss,
    PreferenceLoss,
    TokenLoss,
    answer_logs,
)
from core.training.probe import probe, should_probe
from core.training.ranks import agreed, mine, summed, together, wait_for_all
from core.training.sharding import split_again
from core.training.together import place
from core.training.trackers import as_guests
from core.training.trained import load_trained, save_trained
from core.training.watch import Watch

EVALUATION_POSITIONS = 2048
ELSEWHERE = Exit(
    "disk-full", "The disk of another machine of this run is full.", "Free some space there."
)


class Tuner(SFTTrainer):  # type: ignore[misc]
    """One training. `held_out` rows are measured whenever the callback asks for it."""

    optimizer: Any

    def __init__(
        self,
        *,
        run: RunDirectory,
        keep_checkpoints: int,
        train: Sequence[TokenRow],
        held_out: Sequence[TokenRow],
        objective: ObjectiveLoss,
        pad: int,
        method: MethodSection,
        packed: bool,
        watch: Watch,
        **options: Any,
    ) -> None:
        self._run = run
        self._method = method
        self._keep = keep_checkpoints
        self._held_out = held_out
        self._watch = watch
        self._objective = objective
        self._pad = pad
        self._packed = packed
        self._saving = False
        self._lengths = [row.longest for row in train]
        self.step_tokens = 0
        # Never a larger batch than in training: measuring must not need more memory.
        largest = options["args"].per_device_train_batch_size * max(self._lengths)
        self._evaluation_positions = min(EVALUATION_POSITIONS, largest)
        rows = train if place().alone else [*train, filler(pad, train[0])]
        with in_base_precision(options["model"], method):
            super().__init__(
                train_dataset=as_dataset(rows),
                data_collator=partial(collate_columns, pad=pad, packed=packed),
                callbacks=[watch],
                **options,
            )
        if method.name == "adalora":
            self.add_callback(RankMover)
        self.remove_callback(PrinterCallback)
        as_guests(self, watch.tell_tracker_failed)
        watch.step_tokens = lambda: self.step_tokens
        if isinstance(objective, PreferenceLoss):
            watch.step_measures = objective.measures.take
            objective.logs = self._answer_logs
        watch.probe = lambda: probe(self, self.model_wrapped) if self._can_probe() else {}
        self.processing_class = None  # else every checkpoint gets a copy of the tokenizer
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the tokens of the step

    def _get_train_sampler(self, train_dataset: Any = None) -> BatchOrder:
        turn = self.args.per_device_train_batch_size * place().world
        batch = turn * self.args.gradient_accumulation_steps
        return BatchOrder(self._lengths, batch, self.args.seed, 1 if place().alone else turn)

    def create_optimizer(self, model: Any = None) -> Any:
        if self._method.name != "lora+" or self.optimizer is not None:
            return super().create_optimizer(model)
        from peft.optimizers import create_loraplus_optimizer

        kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = create_loraplus_optimizer(
            self.model,
            kind,
            loraplus_lr_ratio=self._method.lr_ratio,
            loraplus_weight_decay=self.args.weight_decay,
            **options,
        )
        return self.optimizer

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: Any
    ) -> tuple[list[Batch], Any]:
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_tokens = summed(sum(int(batch.pop("tokens")) for batch in samples))
        self._objective.begin(self.model, samples)
        return samples, items

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: Any) -> Tensor:
        """What the losses of the step are divided by: its trained tokens, or its rows."""
        items = torch.tensor(sum(map(self._objective.items, batch_samples)), device=device)
        if self.args.average_tokens_across_devices and self.args.world_size > 1:
            items = self.accelerator.gather(items).sum()
        return items

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Held-out rows are measured in `held_out_metrics`: outputs are never asked for here."""
        items = self._objective.items(inputs)
        of_step = max(int(items if num_items_in_batch is None else num_items_in_batch), 1)
        if isinstance(self._objective, TokenLoss) and self._wants_fused_head(inputs["labels"]):
            whole = self._for_fused_head(inputs)
            loss = super().compute_loss(model, whole, num_items_in_batch=num_items_in_batch)
        else:
            # The items are those of all processes, whose gradients are averaged.
            loss = self._objective.loss_sum(model, inputs) * place().world / of_step
        if self._method.name == "adalora":
            loss = loss + penalty(self.model) * items * place().world / of_step
        return loss

    def _wants_fused_head(self, labels: Tensor) -> bool:
        # Soft prompts stand before the row, where that head does not expect them.
        if labels.device.type != "cuda" or self._method.spec.kind == "soft-prompt":
            return False
        vocabulary: int = self.model.config.get_text_config().vocab_size
        return labelled_tokens(labels) * vocabulary > FUSED_FROM_LOGITS

    def _answer_logs(self, model: Any, ids: Tensor, labels: Tensor) -> Tensor:
        """The log-probability of every row's answer, by whichever head holds less."""
        if not self._wants_fused_head(labels):
            return answer_logs(model, ids, labels)
        found = model(input_ids=ids, labels=labels, use_cache=False, fused_lm_head=True)
        logs: Tensor = found.log_probs[:, 1 - labels.shape[1] :].sum(1)
        return logs

    def _for_fused_head(self, inputs: Batch) -> Batch:
        """Packed rows must come without a mask: their positions tell them apart."""
        if "position_ids" in inputs:
            return inputs
        return {**inputs, "attention_mask": _mask(inputs["input_ids"], self._pad, inputs["labels"])}

    def _clip_grad_norm(self, model: Any) -> Any:
        norm = super()._clip_grad_norm(model)
        bad = norm is not None and not math.isfinite(float(norm))
        if bad and not self.is_deepspeed_enabled:  # which has taken its step in the backward pass
            model.zero_grad(set_to_none=True)  # one bad batch must not poison the weights
        return norm

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> Any:
        metrics = self.held_out_metrics()
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if metrics and self.args.report_to:
            self.log({"eval_loss": metrics["eval_loss"]})
        return metrics

    def held_out_metrics(self) -> dict[str, Any]:
        """The mean loss over all held-out tokens (or rows), and the parts of each row in it.

        Empty when a stop came in between.
        """
        batches = self._held_out_batches()
        measured: list[tuple[list[float], list[int]]] = []
        with self._measures_apart() as measures, measuring(self.model):
            own = mine(batches, _measured_by_another)
            self._objective.begin(self.model, own)
            for batch in own:
                if agreed(self._watch.stop())[0]:
                    return {}
                found = self._objective.rows(self.model, self._prepare_inputs(batch))
                measured.append((found.sums.tolist(), found.weights.tolist()))
                self._watch.measures()
            told = measures.take()
        everybody = together(measured, len(batches))
        sums = [value for part, _ in everybody for value in part]
        weights = [count for _, part in everybody for count in part]
        if not sum(weights):
            return {}
        loss = sum(sums) / sum(weights)
        if isinstance(self._objective, TokenLoss):
            told["perplexity"] = math.exp(min(loss, 700.0))
        return {
            "eval_loss": loss,
            "eval_rows": len(sums),
            "row_sums": sums,
            "row_tokens": weights,
            "measures": told,
        }

    @contextmanager
    def _measures_apart(self) -> Iterator[Measures]:
        """What is measured on held-out rows is not mixed with what the training step told."""
        own, self._objective.measures = self._objective.measures, Measures()
        try:
            yield self._objective.measures
        finally:
            self._objective.measures = own

    def _held_out_batches(self, count: int | None = None) -> list[Batch]:
        rows = islice(by_length(self._held_out, self._evaluation_positions), count)
        return [_without_count(collate(batch, self._pad)) for batch in rows]

    def longest_batch(self) -> Batch:
        """A micro-batch of the longest rows: none that the training will see needs more memory."""
        size = self.args.per_device_train_batch_size
        order = sorted(range(len(self._lengths)), key=lambda row: -self._lengths[row])
        batch = self.data_collator([self.train_dataset[row] for row in order[:size]])
        return _without_count(batch)

    def _can_probe(self) -> bool:
        """DeepSpeed takes no step back: there the first step, which has the longest row in it, is
        what shows whether the memory suffices. (Its optimiser's state is there before.)"""
        return should_probe() and not self.is_deepspeed_enabled

    def begin_step(self, batch: Batch) -> None:
        """As before a step that consists of this micro-batch alone."""
        self._objective.begin(self.model, [batch])

    def measure_longest(self) -> None:
        """The first batch of the held-out rows, which is the one of the longest."""
        batches = self._held_out_batches(1)
        self._objective.begin(self.model, batches)
        for batch in batches:
            self._objective.rows(self.model, self._prepare_inputs(batch))

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self._method.spec.has_own_checkpoints:
            save_trained(self.model, Path(output_dir or self.args.output_dir))
        else:
            super()._save(output_dir, state_dict)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._method.spec.has_own_checkpoints:
            load_trained(self.model, Path(resume_from_checkpoint))
            return
        kinds = {name: weight.dtype for name, weight in self.model.named_parameters()}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, weight in self.model.named_parameters():  # peft loads adapters in 32 bits
            if weight.dtype is not kinds[name]:
                weight.data = weight.data.to(kinds[name])

    def take_weights(self, checkpoint: Path) -> None:
        """The trained weights of a checkpoint in place of those in memory."""
        if self.is_deepspeed_enabled:
            whole = not self._method.spec.has_adapter  # what is frozen is not in it
            deepspeed_load_checkpoint(self.model_wrapped, str(checkpoint), whole)
            return
        split_again(self.model)
        self._load_from_checkpoint(str(checkpoint))

    def whole_weights(self) -> dict[str, Any] | None:
        """The weights that the processes hold parts of, put together in the first of them; None
        where each has all."""
        if not self.holds_parts:
            return None
        # DeepSpeed gives the others nothing at all.
        return dict(self.accelerator.get_state_dict(self.model_wrapped) or {})

    @property
    def holds_parts(self) -> bool:
        """Whether no process has the whole model."""
        return bool(self.is_fsdp_enabled or self.is_deepspeed_enabled)

    def save_where_it_broke(self) -> None:
        """A checkpoint of the last completed step, after an error inside the one that follows."""
        self.model.zero_grad(set_to_none=True)
        if self.state.global_step > 0 and self.optimizer is not None:
            self._save_checkpoint(self.model, None)

    def _get_output_dir(self, trial: Any) -> str:
        return str(saving_folder(self._run) if self._saving else self._run.checkpoints)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save aside, then publish. When the disk is full, the checkpoints before it stay."""
        step = self.state.global_step
        name = f"checkpoint-{step}"
        folder, target = saving_folder(self._run), self._run.checkpoints / name
        cause = self._write_aside(model, trial, folder / name)
        failed = agreed(cause is not None)[0]  # all parts of it are there, or none is published
        if not failed and place().writes:
            cause = self._publish(folder / name, target)
        if agreed(cause is not None)[0]:
            if place().writes:
                clear_leftovers(self._run)
            self._watch.not_saved(step, cause or ELSEWHERE)
        else:
            self._watch.saved(step, target)

    def _write_aside(self, model: Any, trial: Any, folder: Path) -> Exit | None:
        """None when written; a full disk is told, any other trouble raised."""
        self._saving = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            super(SFTTrainer, self)._save_checkpoint(model, trial)  # SFTTrainer adds a model card
            if self.holds_parts and self._watch.machines > 1:
                wait_for_all()
                copy_to_all(folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            return _full_disk(error)
        finally:
            self._saving = False
        return None

    def _publish(self, folder: Path, target: Path) -> Exit | None:
        try:
            self._watch.complete_checkpoint(folder)
            publish(folder, target)
            prune(self._run, self._keep, self._watch.best_step)
        except OSError as error:
            return _full_disk(error)
        return None


def _full_disk(error: Exception) -> Exit:
    """What a save that broke off is told as. Raises the error if it is anything but a full disk."""
    cause = known_cause(f"{type(error).__name__}: {error}")
    if cause is None or cause.code != "disk-full":
        raise error
    return cause


def as_dataset(rows: Sequence[TokenRow]) -> Dataset:
    """The rows as the type that TRL insists on."""
    trees = [as_tree(row) for row in rows]
    return Dataset.from_dict({key: [tree[key] for tree in trees] for key in trees[0]})


def collate_columns(rows: Sequence[dict[str, Any]], pad: int, packed: bool) -> Batch:
    """`collate` for rows as they come out of a data set."""
    return collate([row_of(row) for row in rows], pad, packed=packed)


def _without_count(batch: Batch) -> Batch:
    batch.pop("tokens")
    return batch


def _measured_by_another(batch: Batch) -> Batch:
    """The same forward pass, with nothing in it that counts."""
    return {**batch, "labels": torch.full_like(batch["labels"], IGNORED)}


def _mask(input_ids: Tensor, pad: int, labels: Tensor) -> Tensor:
    """1 where a token is; padding is the run of pad tokens without a label at a row's end."""
    filler = (input_ids == pad) & (labels == IGNORED)
    trailing = filler.flip(1).long().cumprod(1).flip(1)
    return 1 - trailing
