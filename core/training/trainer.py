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
from trl import SFTTrainer

from core.data.encoding import IGNORED
from core.data.training_rows import TokenRow, as_tree, row_of
from core.runs.causes import known_cause
from core.runs.directory import RunDirectory
from core.training.batches import BatchOrder, by_length, collate
from core.training.checkpoints import clear_leftovers, prune, publish, saving_folder
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
from core.training.watch import Watch

EVALUATION_POSITIONS = 2048
# Above this many logits TRL's fused head, which never holds them all, takes over on a GPU.
FUSED_FROM_LOGITS = 2**23


class Tuner(SFTTrainer):  # type: ignore[misc]
    """One training. `held_out` rows are measured whenever the callback asks for it."""

    def __init__(
        self,
        *,
        run: RunDirectory,
        keep_checkpoints: int,
        train: Sequence[TokenRow],
        held_out: Sequence[TokenRow],
        objective: ObjectiveLoss,
        pad: int,
        packed: bool,
        watch: Watch,
        **options: Any,
    ) -> None:
        self._run = run
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
        super().__init__(
            train_dataset=as_dataset(train),
            data_collator=partial(collate_columns, pad=pad, packed=packed),
            callbacks=[watch],
            **options,
        )
        self.remove_callback(PrinterCallback)
        watch.step_tokens = lambda: self.step_tokens
        watch.step_measures = objective.measures.take
        if isinstance(objective, PreferenceLoss):
            objective.logs = self._answer_logs
        watch.probe = lambda: probe(self, self.model_wrapped) if should_probe() else {}
        self.processing_class = None  # else every checkpoint gets a copy of the tokenizer
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the tokens of the step

    def _get_train_sampler(self, train_dataset: Any = None) -> BatchOrder:
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return BatchOrder(self._lengths, batch, self.args.seed)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: Any
    ) -> tuple[list[Batch], Any]:
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_tokens = sum(int(batch.pop("tokens")) for batch in samples)
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
        of_tokens = isinstance(self._objective, TokenLoss)
        if return_outputs or (of_tokens and self._wants_fused_head(inputs["labels"])):
            return super().compute_loss(
                model, self._for_fused_head(inputs), return_outputs, num_items_in_batch
            )
        summed = self._objective.loss_sum(self.model, inputs)
        items = self._objective.items(inputs) if num_items_in_batch is None else num_items_in_batch
        return summed / max(int(items), 1)

    def _wants_fused_head(self, labels: Tensor) -> bool:
        if labels.device.type != "cuda":
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
        if norm is not None and not math.isfinite(float(norm)):
            model.zero_grad(set_to_none=True)  # one bad batch must not poison the weights
        return norm

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> Any:
        metrics = self.held_out_metrics()
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def held_out_metrics(self) -> dict[str, Any]:
        """The mean loss over all held-out tokens (or rows), and the parts of each row in it.

        Empty when a stop came in between.
        """
        sums: list[float] = []
        weights: list[int] = []
        with self._measures_apart() as measures, measuring(self.model):
            batches = self._held_out_batches()
            self._objective.begin(self.model, batches)
            for batch in batches:
                if self._watch.stop():
                    return {}
                found = self._objective.rows(self.model, self._prepare_inputs(batch))
                sums += found.sums.tolist()
                weights += found.weights.tolist()
            told = measures.take()
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

    def begin_step(self, batch: Batch) -> None:
        """As before a step that consists of this micro-batch alone."""
        self._objective.begin(self.model, [batch])

    def measure_longest(self) -> None:
        """The first batch of the held-out rows, which is the one of the longest."""
        batches = self._held_out_batches(1)
        self._objective.begin(self.model, batches)
        for batch in batches:
            self._objective.rows(self.model, self._prepare_inputs(batch))

    def take_weights(self, checkpoint: Path) -> None:
        """The trained weights of a checkpoint in place of those in memory."""
        self._load_from_checkpoint(str(checkpoint))

    def save_where_it_broke(self) -> None:
        """A checkpoint of the last completed step, after an error inside the one that follows."""
        self.model.zero_grad(set_to_none=True)
        if self.state.global_step > 0 and self.optimizer is not None:
            self._save_checkpoint(self.model, None)

    def _get_output_dir(self, trial: Any) -> str:
        return str(saving_folder(self._run) if self._saving else self._run.checkpoints)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save aside, then publish. When the disk is full, the checkpoints before it stay."""
        name = f"checkpoint-{self.state.global_step}"
        folder, place = saving_folder(self._run), self._run.checkpoints / name
        self._saving = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            super(SFTTrainer, self)._save_checkpoint(model, trial)  # SFTTrainer adds a model card
            self._watch.complete_checkpoint(folder / name)
            publish(folder / name, place)
            prune(self._run, self._keep, self._watch.best_step)
            self._watch.saved(self.state.global_step, place)
        except (OSError, RuntimeError, SafetensorError) as error:
            cause = known_cause(f"{type(error).__name__}: {error}")
            if cause is None or cause.code != "disk-full":
                raise
            clear_leftovers(self._run)
            self._watch.not_saved(self.state.global_step, cause)
        finally:
            self._saving = False


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


def _mask(input_ids: Tensor, pad: int, labels: Tensor) -> Tensor:
    """1 where a token is; padding is the run of pad tokens without a label at a row's end."""
    filler = (input_ids == pad) & (labels == IGNORED)
    trailing = filler.flip(1).long().cumprod(1).flip(1)
    return 1 - trailing
