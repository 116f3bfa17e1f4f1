"""TRL's SFTTrainer with our loss, our order of rows, and checkpoints written whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from safetensors import SafetensorError
from torch import Tensor
from transformers import PrinterCallback
from trl import SFTTrainer

from core.data.encoding import IGNORED
from core.memory.setup import FUSED_FROM_LOGITS
from core.runs.causes import known_cause
from core.runs.directory import RunDirectory
from core.training.batches import BatchOrder, Row, collate
from core.training.checkpoints import clear_leftovers, prune, publish, saving_folder
from core.training.loss import labelled_loss_rows, labelled_loss_sum, labelled_tokens
from core.training.modes import measuring
from core.training.probe import probe, should_probe
from core.training.watch import Watch

EVALUATION_POSITIONS = 2048


class Tuner(SFTTrainer):  # type: ignore[misc]
    """One training. `held_out` rows are measured whenever the callback asks for it."""

    def __init__(
        self,
        *,
        run: RunDirectory,
        keep_checkpoints: int,
        train: Sequence[Row],
        held_out: Sequence[Row],
        pad: int,
        watch: Watch,
        **options: Any,
    ) -> None:
        self._run = run
        self._keep = keep_checkpoints
        self._held_out = held_out
        self._watch = watch
        self._pad = pad
        self._saving = False
        self._lengths = [len(row.input_ids) for row in train]
        self.step_tokens = 0
        # Never a larger batch than in training: measuring must not need more memory.
        largest = options["args"].per_device_train_batch_size * max(self._lengths)
        self._evaluation_positions = min(EVALUATION_POSITIONS, largest)
        super().__init__(
            train_dataset=as_dataset(train),
            data_collator=partial(collate, pad=pad),
            callbacks=[watch],
            **options,
        )
        self.remove_callback(PrinterCallback)
        watch.step_tokens = lambda: self.step_tokens
        watch.probe = lambda: probe(self, self.model_wrapped) if should_probe() else {}
        self.processing_class = None  # else every checkpoint gets a copy of the tokenizer
        self.model_accepts_loss_kwargs = True  # compute_loss divides by the tokens of the step

    def _get_train_sampler(self, train_dataset: Any = None) -> BatchOrder:
        batch = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return BatchOrder(self._lengths, batch, self.args.seed)

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Tensor]], num_batches: int, device: Any
    ) -> tuple[list[dict[str, Tensor]], Any]:
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.step_tokens = sum(int(batch.pop("tokens")) for batch in samples)
        return samples, items

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        labels = inputs["labels"]
        if return_outputs or self._wants_fused_head(labels):
            inputs = {**inputs, "attention_mask": _mask(inputs["input_ids"], self._pad, labels)}
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        summed = labelled_loss_sum(self.model, inputs["input_ids"], labels)
        items = labelled_tokens(labels) if num_items_in_batch is None else num_items_in_batch
        return summed / max(int(items), 1)

    def _wants_fused_head(self, labels: Tensor) -> bool:
        if labels.device.type != "cuda":
            return False
        vocabulary: int = self.model.config.get_text_config().vocab_size
        return labelled_tokens(labels) * vocabulary > FUSED_FROM_LOGITS

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
        """The mean loss over all held-out tokens, and the summed loss and the tokens of each row.

        Empty when a stop came in between.
        """
        sums: list[float] = []
        tokens: list[int] = []
        with measuring(self.model):
            for batch in _by_length(self._held_out, self._evaluation_positions):
                if self._watch.stop():
                    return {}
                inputs = collate([_columns(row) for row in batch], self._pad)
                labels = inputs["labels"].to(self.args.device)
                ids = inputs["input_ids"].to(self.args.device)
                sums += labelled_loss_rows(self.model, ids, labels).tolist()
                tokens += (labels[:, 1:] != IGNORED).sum(1).tolist()
        if not sum(tokens):
            return {}
        loss = sum(sums) / sum(tokens)
        return {"eval_loss": loss, "eval_rows": len(sums), "row_sums": sums, "row_tokens": tokens}

    def longest_batch(self) -> dict[str, Tensor]:
        """A micro-batch of the longest rows: none that the training will see needs more memory."""
        size = self.args.per_device_train_batch_size
        order = sorted(range(len(self._lengths)), key=lambda row: -self._lengths[row])
        batch = self.data_collator([self.train_dataset[row] for row in order[:size]])
        batch.pop("tokens")
        return dict(batch)

    def measure_longest(self) -> None:
        """The first batch of the held-out rows, which is the one of the longest."""
        for batch in _by_length(self._held_out, self._evaluation_positions):
            inputs = collate([_columns(row) for row in batch], self._pad)
            on_device = {key: inputs[key].to(self.args.device) for key in ("input_ids", "labels")}
            labelled_loss_rows(self.model, **on_device)
            return

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


def as_dataset(rows: Sequence[Row]) -> Dataset:
    """The rows as the type that TRL insists on."""
    return Dataset.from_dict(
        {
            "input_ids": [row.input_ids for row in rows],
            "labels": [row.labels for row in rows],
        }
    )


def _columns(row: Row) -> dict[str, Sequence[int]]:
    return {"input_ids": row.input_ids, "labels": row.labels}


def _by_length(rows: Sequence[Row], positions: int) -> Iterator[list[Row]]:
    """Batches of similar length, the longest first, none above a budget of positions."""
    waiting = sorted(rows, key=lambda row: -len(row.input_ids))
    while waiting:
        size = max(1, positions // len(waiting[0].input_ids))
        yield waiting[:size]
        waiting = waiting[size:]


def _mask(input_ids: Tensor, pad: int, labels: Tensor) -> Tensor:
    """1 where a token is; padding is the run of pad tokens without a label at a row's end."""
    filler = (input_ids == pad) & (labels == IGNORED)
    trailing = filler.flip(1).long().cumprod(1).flip(1)
    return 1 - trailing
