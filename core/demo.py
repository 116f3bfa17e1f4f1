"""The demo: a small job on the embedded model, from data to a model to talk to, without a GPU."""

from __future__ import annotations

from core.models.embedded import MODEL_ID
from core.paths import presets_root
from core.recipe import (
    DataSection,
    EvaluationSection,
    MethodSection,
    ModelSection,
    Recipe,
    TrainingSection,
)

NAME = "demo"


def recipe() -> Recipe:
    """Spoken requests → strict JSON on SmolLM2-135M, sized for minutes on two CPU cores."""
    folder = presets_root() / "demo"
    return Recipe(
        name=NAME,
        model=ModelSection(id=MODEL_ID),
        data=DataSection(
            train=[str(folder / "train.jsonl")],
            eval=[str(folder / "heldout.jsonl")],
            max_length=256,
        ),
        method=MethodSection(name="lora", rank=16, alpha=32, target_modules="all-linear"),
        training=TrainingSection(
            max_steps=40,
            learning_rate=1e-3,
            micro_batch=8,
            gradient_accumulation=1,
            warmup=0.05,
            eval_steps=20,
            save_steps=20,
        ),
        evaluation=EvaluationSection(rows=100),
    )
