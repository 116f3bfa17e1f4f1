"""Trainings to compare with: TRL (and LLaMA-Factory) on the same model and the same rows.

Started by `overhead` and `time_to_loss` as a child process, with a JSON object of settings:

    python -P -m tests.bench.contenders SETTINGS.json

Every step is a JSON line on stdout: step, seconds of it, tokens that are not padding; with
`held_out`, also the loss on the held-out rows' answers, measured while the clock stands still.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from core.data.prepared import Prepared, load_prepared


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    prepared = load_prepared(Path(settings["data"]))
    if settings["style"] == "trl-defaults":
        train_by_defaults(settings, prepared)
    else:
        train_alike(settings, prepared, labelled=settings["style"] == "trl-labels")


def train_alike(settings: dict[str, Any], prepared: Prepared, *, labelled: bool) -> None:
    """A bare TRL script with the worker's settings: the same weights in the same type, the same
    rows in the same order. `labelled`: with the labels as well, else all tokens are trained,
    which is what TRL does with rows of messages."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    from core.training.batches import epoch_order

    lengths = [len(row.input_ids) for row in prepared.train]
    order = epoch_order(lengths, settings["batch"], settings["seed"], 0)
    rows = [prepared.train[at] for at in order]
    columns = {"input_ids": [row.input_ids for row in rows]}
    columns["labels"] = [row.labels if labelled else row.input_ids for row in rows]
    model = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.bfloat16)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            **_common(settings),
            max_length=None,
            activation_checkpointing=False,
            bf16=False,
            train_sampling_strategy="sequential",
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=Dataset.from_dict(columns),
        processing_class=AutoTokenizer.from_pretrained(settings["model"]),
        peft_config=LoraConfig(**_lora()),
    )
    size = settings["batch"]
    tokens = [sum(lengths[at] for at in order[i : i + size]) for i in range(0, len(order), size)]
    trainer.add_callback(_clock(settings, prepared, trainer, tokens))
    trainer.train()


def train_by_defaults(settings: dict[str, Any], prepared: Prepared) -> None:
    """What a person types: the model's name, the file of messages, batch and learning rate."""
    from datasets import load_dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model=settings["model"],
        args=SFTConfig(**_common(settings)),
        train_dataset=load_dataset("json", data_files=settings["train"], split="train"),
        peft_config=LoraConfig(**_lora()),
    )
    trainer.add_callback(_clock(settings, prepared, trainer, []))
    trainer.train()


def _lora() -> dict[str, Any]:
    return {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


def _common(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "output_dir": settings["output"],
        "max_steps": settings["steps"],
        "per_device_train_batch_size": settings["batch"],
        "learning_rate": settings["learning_rate"],
        "lr_scheduler_type": "constant",
        "seed": settings["seed"],
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": settings["cpu"],
    }


def _clock(settings: dict[str, Any], prepared: Prepared, trainer: Any, tokens: list[int]) -> Any:
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        """Tells each step's seconds, from the end of the one before to its own."""

        began = 0.0

        def on_train_begin(self, *_: Any, **rest: Any) -> None:
            self._tell(0, 0.0)

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self._tell(state.global_step, time.perf_counter() - self.began)

        def _tell(self, step: int, seconds: float) -> None:
            told: dict[str, Any] = {"step": step, "seconds": seconds}
            if tokens and step:
                told["tokens"] = tokens[step - 1]
            if settings["held_out"] and step % settings["every"] == 0:
                told["loss"] = held_out(trainer.model, prepared)
            print(json.dumps(told), flush=True)
            self.began = time.perf_counter()

    return Clock()


def held_out(model: Any, prepared: Prepared) -> float:
    """The mean loss over the answers' tokens, whatever was trained on."""
    from core.evaluation.loss import held_out_loss

    was = model.training
    model.eval()
    found = held_out_loss(model, prepared.eval)
    model.train(was)
    return found.mean if found else float("nan")


if __name__ == "__main__":
    main()
