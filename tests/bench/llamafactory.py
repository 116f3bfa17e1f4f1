"""LLaMA-Factory on the same rows, from an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from core.data.prepared import Prepared
from core.recipe import Recipe
from tests.bench.contenders import held_out
from tests.bench.worker_runs import Step


def train_with_llamafactory(
    python: str, recipe: Recipe, prepared: Prepared, folder: Path, every: int
) -> list[Step]:
    """Train with its command line, a checkpoint at every measuring point; its own log tells the
    seconds. The loss of each checkpoint is taken afterwards, with our rows and our template."""
    folder.mkdir()
    _write_data(recipe, folder)
    (folder / "config.yaml").write_text(json.dumps(_config(recipe, folder, every)))
    with (folder / "log.txt").open("w+", encoding="utf-8") as log:
        code = subprocess.run(
            [str(Path(python).with_name("llamafactory-cli")), "train", str(folder / "config.yaml")],
            stdout=log, stderr=subprocess.STDOUT, env=_environment(), check=False,
        ).returncode  # fmt: skip
        log.seek(0)
        if code:
            raise SystemExit(f"LLaMA-Factory failed:\n{log.read()[-3000:]}")
    lines = (folder / "output/trainer_log.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line) for line in lines]
    ends = {
        each["current_steps"]: _seconds(each["elapsed_time"]) for each in told if "loss" in each
    }
    return _with_losses(recipe, prepared, folder, ends, every)


def _with_losses(
    recipe: Recipe, prepared: Prepared, folder: Path, ends: dict[int, float], every: int
) -> list[Step]:
    steps = [Step(0, 0.0, 0, _loss(recipe, prepared, None))]
    before = 0.0
    for number, end in sorted(ends.items()):
        place = folder / f"output/checkpoint-{number}"
        loss = _loss(recipe, prepared, place) if number % every == 0 else None
        steps.append(Step(number, end - before, 0, loss))
        before = end
    return steps


def _loss(recipe: Recipe, prepared: Prepared, adapter: Path | None) -> float:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(recipe.model.id, dtype=torch.bfloat16)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    return held_out(model, prepared)


def _write_data(recipe: Recipe, folder: Path) -> None:
    columns = {
        "file_name": recipe.data.train[0],
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    }
    (folder / "dataset_info.json").write_text(json.dumps({"rows": columns}))


def _config(recipe: Recipe, folder: Path, every: int) -> dict[str, Any]:
    import torch

    training = recipe.training
    return {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": recipe.model.id,
        "dataset_dir": str(folder),
        "dataset": "rows",
        "template": "smollm2",
        "cutoff_len": recipe.data.max_length,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_target": "all",
        "output_dir": str(folder / "output"),
        "per_device_train_batch_size": training.effective_batch,
        "gradient_accumulation_steps": 1,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "constant",
        "max_steps": training.max_steps,
        "logging_steps": 1,
        "save_steps": every,
        "bf16": True,
        "use_cpu": not torch.cuda.is_available(),
        "seed": training.seed,
        "report_to": "none",
        "overwrite_cache": True,
        "preprocessing_num_workers": 1,
    }


def _environment() -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**environment, "DISABLE_VERSION_CHECK": "1", "HF_HUB_OFFLINE": "1"}


def _seconds(text: str) -> float:
    """Of h:mm:ss."""
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + float(part)
    return total
