"""From a chosen candidate to the recipe that starts it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core.data.encoding import TrainOn
from core.planning.candidates import Candidate
from core.recipe import (
    DataSection,
    HardwareSection,
    MethodSection,
    ModelSection,
    ObjectiveSection,
    Recipe,
    TrainingSection,
)


def recipe_for(
    candidate: Candidate,
    *,
    name: str,
    sources: Sequence[str],
    eval_sources: Sequence[str] = (),
    eval_by_name: bool = True,
    mapping: Mapping[str, str] | None = None,
    train_on: TrainOn = "assistant",
    rows: int,
) -> Recipe:
    """The complete recipe. `rows` decides how much is held out where no eval data is given."""
    hyper = candidate.hyper
    return Recipe(
        name=name[:60] or "run",
        model=ModelSection(id=candidate.model.id),
        data=DataSection(
            train=list(sources),
            eval=list(eval_sources),
            eval_by_name=eval_by_name,
            mapping=dict(mapping or {}),
            max_length=candidate.seq_length,
            train_on=train_on,
            eval_fraction=eval_fraction(rows),
        ),
        method=MethodSection(
            name=candidate.method,
            bits=hyper.bits,
            rank=hyper.rank,
            alpha=hyper.alpha,
            dropout=hyper.dropout,
            target_modules=hyper.targets if isinstance(hyper.targets, str) else [*hyper.targets],
            layers=hyper.layers,
            virtual_tokens=hyper.virtual_tokens,
            lr_ratio=hyper.lr_ratio,
        ),
        objective=ObjectiveSection(name=candidate.basis.objective),
        training=TrainingSection(
            epochs=hyper.epochs,
            learning_rate=hyper.learning_rate,
            schedule=hyper.schedule,
            warmup=hyper.warmup,
            micro_batch=candidate.micro_batch,
            gradient_accumulation=candidate.gradient_accumulation,
            optimizer=candidate.optimizer,
            gradient_checkpointing=candidate.gradient_checkpointing,
            packing="auto" if hyper.packing == "auto" else candidate.packed,
        ),
        hardware=HardwareSection(
            gpu=candidate.basis.gpu,
            gpus=candidate.basis.gpus,
            sharding=candidate.sharding if candidate.basis.gpus > 1 else "auto",
            dollars_per_hour=candidate.basis.dollars_per_hour,
        ),
    )


def with_sources(recipe: Recipe, sources: Mapping[str, str]) -> str:
    """The recipe as YAML, under comments that say where its values are from."""
    comments = [f"#   {key}: {text}" for key, text in sources.items()]
    return "\n".join(["# Where the values are from:", *comments, recipe.to_yaml()])


def eval_fraction(rows: int) -> float:
    """5 %, but at least some 20 rows of few and no more than some 1,000 of many."""
    if rows <= 0:
        return 0.05
    return round(min(0.2, max(0.05, 20 / rows), max(0.01, 1000 / rows)), 3)
