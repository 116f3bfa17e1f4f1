"""What the benches share: the model, the rows, and a run of the real worker with its clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.children import command
from core.data.prepared import Prepared, prepare
from core.data.tokenizer import load_tokenizer
from core.models.embedded import locate_embedded
from core.recipe import Recipe, parse_recipe
from core.runs.directory import RunDirectory
from core.runs.events import EventReader
from tests.bench.mixed_chat import write_mixed_chat

SEED = 42


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step (or step 0, before the first). `loss` is that on held-out rows."""

    number: int
    seconds: float
    tokens: int = 0
    loss: float | None = None


def model_folder() -> Path:
    """SmolLM2-135M-Instruct, fetched the first time."""
    return locate_embedded(lambda text, done, total: None)


def make_recipe(folder: Path, rows: int, held_out: int, **training: Any) -> Recipe:
    """Mixed-length chats, LoRA of rank 16 on all linear layers, the worker's own choices."""
    train, held = write_mixed_chat(folder / "rows", rows, held_out)
    tree = {
        "model": str(model_folder()),
        "data": {"train": [str(train)], "eval": [str(held)]},
        "training": {
            "schedule": "constant",
            "warmup": 0.0,
            "learning_rate": 1e-3,
            "early_stopping": False,
            "seed": SEED,
            **training,
        },
    }
    return parse_recipe(tree, "bench")


def encode(recipe: Recipe, folder: Path) -> Prepared:
    """The rows as the worker encodes them, for those that it is compared with."""
    return prepare(recipe, load_tokenizer(Path(recipe.model.id)), folder)


def train_with_worker(recipe: Recipe, folder: Path) -> list[Step]:
    """Run the training stage as a child process, as the app does."""
    run = RunDirectory(folder)
    run.control.mkdir(parents=True)
    run.recipe.write_text(recipe.to_yaml(), encoding="utf-8")
    _run(command("core.training.worker", str(folder)), folder / "worker.log")
    return _steps(run)


def _steps(run: RunDirectory) -> list[Step]:
    """The time of a step: from the event before it (of a step or an evaluation) to its own."""
    found: list[Step] = []
    before, seen = 0.0, 0
    for event in EventReader(run.events, budget=1 << 30).read():
        if event["kind"] == "log":
            found.append(Step(event["step"], event["t"] - before, event["tokens"] - seen))
            seen = event["tokens"]
        elif event["kind"] == "eval":
            step = found.pop() if found and event["step"] else Step(0, 0.0)
            found.append(Step(step.number, step.seconds, step.tokens, event["loss"]))
        before = event["t"]
    return found


def train_with(style: str, recipe: Recipe, data: Path, folder: Path, **more: Any) -> list[Step]:
    """Run one of the `contenders` on the same rows."""
    import torch

    folder.mkdir(parents=True)
    training = recipe.training
    settings = {
        "style": style,
        "model": recipe.model.id,
        "train": recipe.data.train[0],
        "data": str(data),
        "output": str(folder / "output"),
        "batch": training.effective_batch,
        "learning_rate": training.learning_rate,
        "steps": training.max_steps,
        "seed": training.seed,
        "every": training.eval_steps,
        "cpu": not torch.cuda.is_available(),
        "held_out": False,
        **more,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    script = [sys.executable, "-m", "tests.bench.contenders", str(folder / "settings.json")]
    lines = _run(script, folder / "log.txt").splitlines()
    told = [json.loads(line) for line in lines if line.startswith('{"step"')]
    return [Step(each["step"], each["seconds"], each.get("tokens", 0), each.get("loss"))
            for each in told]  # fmt: skip


def _run(script: list[str], log: Path) -> str:
    """The child's stdout; what it complained about is shown when it fails."""
    environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    with log.open("w+", encoding="utf-8") as file:
        child = subprocess.run(
            script, stdout=subprocess.PIPE, stderr=file, text=True, env=environment, check=False
        )
        file.seek(0)
        complaint = file.read()
    if child.returncode:
        raise SystemExit(f"{' '.join(script)} failed:\n{complaint[-3000:]}")
    return child.stdout
