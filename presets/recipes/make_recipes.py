"""Writes the recipes of this folder: each job for each class of GPU memory.

    python -P presets/recipes/make_recipes.py

Model, method and hyper-parameters are chosen here; the micro-batch is the largest that the
predictor lets fit with something to spare, at the longest rows.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
CLASSES = (8, 12, 16, 24, 40, 48, 80, 141)
SPARE = 0.96
"""Of the class, in decimal gigabytes: cards are sold so, and drivers keep some for themselves."""
EFFECTIVE_BATCH = 16

INSTRUCT = {
    8: ("Qwen/Qwen3-4B", "qlora"), 12: ("Qwen/Qwen3-8B", "qlora"), 16: ("Qwen/Qwen3-8B", "qlora"),
    24: ("Qwen/Qwen3-14B", "qlora"), 40: ("Qwen/Qwen3-14B", "qlora"),
    48: ("Qwen/Qwen3-14B", "lora"), 80: ("Qwen/Qwen3-32B", "qlora"),
    141: ("Qwen/Qwen3-32B", "lora"),
}  # fmt: skip
LONG_ROWS = {**INSTRUCT, 8: ("Qwen/Qwen3-1.7B", "qlora"), 12: ("Qwen/Qwen3-4B", "qlora")}
PAIRS = LONG_ROWS  # all logits of both answers are held: as much as longer rows take
BASE = {
    8: ("Qwen/Qwen2.5-1.5B", "qlora"), 12: ("Qwen/Qwen2.5-7B", "qlora"),
    16: ("Qwen/Qwen2.5-7B", "qlora"), 24: ("Qwen/Qwen2.5-7B", "qlora"),
    40: ("Qwen/Qwen2.5-14B", "qlora"), 48: ("Qwen/Qwen2.5-14B", "lora"),
    80: ("Qwen/Qwen2.5-32B", "qlora"), 141: ("Qwen/Qwen2.5-32B", "lora"),
}  # fmt: skip
TITLES = {"lora": "LoRA", "qlora": "QLoRA"}


@dataclass(frozen=True, slots=True)
class Job:
    """What a recipe is for, and what follows from that."""

    name: str
    about: str
    models: dict[int, tuple[str, str]]
    length: int
    train_on: str
    trained: str
    rank: int
    epochs: float
    learning_rate: float
    warmup: float = 0.03
    objective: str = "sft"
    rows: str = "rows.jsonl"


JOBS = (
    Job("chat", "A chat assistant with your tone and knowledge of how you answer.",
        INSTRUCT, 2048, "assistant", "all answers of a conversation", 16, 2, 2e-4),
    Job("json", "Strict JSON or fields taken out of text: the same shape every time.",
        INSTRUCT, 1024, "assistant", "the JSON only, not the text it is taken from", 16, 3, 2e-4),
    Job("classify", "Classification: one label as the whole answer.",
        INSTRUCT, 512, "last", "the label only", 8, 3, 1e-4),
    Job("style", "Style and tone: what is said stays, how it is said changes.",
        INSTRUCT, 1024, "assistant", "all answers", 8, 2, 1e-4),
    Job("code", "Code in your language, with your libraries and conventions.",
        LONG_ROWS, 4096, "assistant", "the code, not the question", 32, 2, 2e-4),
    Job("summarise", "Summaries of long texts.",
        LONG_ROWS, 4096, "last", "the summary, not the text", 16, 2, 1e-4),
    Job("pretrain", "Continued pre-training on plain text of a domain or language.",
        BASE, 2048, "all", "every token: there are no questions and answers", 64, 1, 1e-4,
        objective="pretrain", rows="texts.jsonl"),
    Job("prefer", "Preference tuning (DPO) on pairs of a better and a worse answer.",
        PAIRS, 1024, "last", "both answers of a pair, against one another", 16, 1, 5e-6,
        warmup=0.1, objective="dpo", rows="pairs.jsonl"),
)  # fmt: skip

TEMPLATE = """\
# {about}
# For one GPU of {size} GB: {model} with {method_title}, rows of up to {most} tokens.
# Start it with `tunedeck train {file} --set data.train=[my-{rows}]`.

version: 1                      # of this format; always 1
name: {name}# text: part of the run's id; default run

model:
  id: {model_id}# hub id or a local folder; no default
  precision: auto               # auto, bf16, fp16, fp32: type of the weights; default auto

data:
  train: {train}# files, folders, globs or hub ids: your rows; no default
  max_length: {length}# tokens: longer rows are {longer}; default 1024
  train_on: {train_on}# assistant, last, all; here {trained}; default assistant
  eval_fraction: 0.05           # share of the rows held out to measure on; default 0.05

method:
  name: {method}# one of `tunedeck plan --help`: lora, qlora (4-bit base), full, …; default lora
  rank: {rank}# whole number: size of the adapter, more learns more; default 16
  alpha: {alpha}# number: the update is scaled by alpha/rank; default 32
  dropout: 0.0                  # share of the inputs left out: memorises less; default 0.0
  target_modules: all-linear    # attention, attention-all, all-linear or names; default all-linear

objective:
  name: {objective}# sft, pretrain, dpo, kto, orpo: what the rows are for; default sft
{beta}
training:
  epochs: {epochs}# number: passes over the rows; default 3.0
  learning_rate: {rate}# number: lower it when answers turn to gibberish; default 0.0002
  schedule: cosine              # cosine, linear, constant, constant_with_warmup; default cosine
  warmup: {warmup}# share of the steps with a rising rate; default 0.03
  micro_batch: {micro}# rows in one forward pass: what the memory allows; default 4
  gradient_accumulation: {accumulation}# micro-batches a step: their product is the batch; default 4
  optimizer: adamw              # auto, adamw, adamw-8bit, paged-adamw-8bit, sgd; default auto
  gradient_checkpointing: true  # true, false, auto: less memory, a third more compute; default auto
  keep_checkpoints: 2           # whole number: older ones are deleted; default 2
  seed: 42                      # whole number: the same rows in the same order; default 42
"""
BETA = "  beta: 0.1                     # number: how close to stay to the base; default 0.1\n"
COLUMN = 32
"""Where the comments begin."""


def recipe_text(job: Job, size: int) -> str:
    """The file for one job and class. ValueError where no micro-batch fits."""
    model, method = job.models[size]
    micro = _largest_micro_batch(job, size)
    values = {
        "name": job.name, "model_id": model, "train": f"[{job.rows}]", "length": job.length,
        "train_on": job.train_on, "method": method, "rank": job.rank, "alpha": 2 * job.rank,
        "objective": job.objective, "epochs": f"{job.epochs:g}", "warmup": f"{job.warmup:g}",
        "rate": f"{_rate(job, size):.7f}".rstrip("0"), "micro": micro,
        "accumulation": EFFECTIVE_BATCH // micro,
    }  # fmt: skip
    text = TEMPLATE
    for key, value in values.items():
        text = _filled(text, key, str(value))
    for key, value in {
        "about": job.about, "size": str(size), "model": model, "method_title": TITLES[method],
        "most": f"{job.length:,}", "file": f"{job.name}-{size}gb.yaml", "rows": job.rows,
        "trained": job.trained, "longer": "split" if job.objective == "pretrain" else "cut",
        "beta": BETA if job.objective == "dpo" else "",
    }.items():  # fmt: skip
        text = text.replace("{" + key + "}", value)
    return text


def _rate(job: Job, size: int) -> float:
    """The job's, but no more than the planner proposes for a model of this size."""
    from core.models.catalogue import card_for
    from core.planning.defaults import defaults

    model, method = job.models[size]
    parameters = card_for(model).shape.parameters
    usual = defaults(1000, parameters, method, job.objective)  # type: ignore[arg-type]
    return min(job.learning_rate, usual.learning_rate)


def _filled(text: str, key: str, value: str) -> str:
    """With a value in its line, and the comment after it where all comments begin."""
    lines = []
    for line in text.split("\n"):
        head, mark, comment = line.partition("{" + key + "}#")
        lines.append(f"{head + value:<{COLUMN - 1}} #{comment}" if mark else line)
    return "\n".join(lines)


def _largest_micro_batch(job: Job, size: int) -> int:
    """The most rows that fit."""
    from core.planning.search import priced

    micro = EFFECTIVE_BATCH
    while micro >= 1:
        prediction = priced(_settings(job, size, micro)).prediction
        if prediction.high <= SPARE * size * 1e9:
            return micro
        micro //= 2
    raise ValueError(f"{job.name} does not fit {size} GB: {job.models[size]}")


def _settings(job: Job, size: int, micro: int):  # type: ignore[no-untyped-def]
    from core.models.catalogue import card_for
    from core.planning.candidates import Basis, Hyper
    from core.planning.search import Settings

    model, method = job.models[size]
    hyper = Hyper(
        job.learning_rate, job.rank, 2.0 * job.rank, 0.0, job.epochs, job.warmup, EFFECTIVE_BATCH
    )
    basis = Basis(
        1000, job.length, job.length, job.length, int(size * 1e9), True, objective=job.objective
    )
    return Settings(
        card_for(model), method, hyper, basis, job.length, micro, EFFECTIVE_BATCH // micro, True
    )


def main() -> None:
    sys.path.insert(0, str(FOLDER.parent.parent))
    for job in JOBS:
        for size in CLASSES:
            path = FOLDER / f"{job.name}-{size}gb.yaml"
            path.write_text(recipe_text(job, size), encoding="utf-8")
    print(f"{len(JOBS) * len(CLASSES)} recipes written to {FOLDER}")


if __name__ == "__main__":
    main()
