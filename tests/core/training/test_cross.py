"""Every method with every objective, through the real worker: it learns, and what it leaves on the
disk is what it has learned. What does not go together is refused before a weight is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from core.data.examples import FormatName
from core.data.prepared import load_prepared
from core.data.training_rows import TokenRow
from core.methods import METHODS, Bits, MethodName
from core.objectives import OBJECTIVES, ObjectiveName
from core.recipe import ObjectiveSection, Recipe, load_recipe
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.training import session
from core.training.batches import collate
from core.training.finish import make_merged
from core.training.loading import load_base, plain_weights
from core.training.objective import answer_logs, objective_loss
from core.training.reporter import Reporter
from tests.core.training.words import (
    RATES,
    make_completions,
    make_judged,
    make_pairs,
    make_rows,
    make_texts,
)

pytestmark = pytest.mark.usefixtures("old_objects_are_left_alone")
NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
ROWS, STEPS = 8, 6
KINDS: dict[str, tuple[ObjectiveName, Callable[..., Path]]] = {
    "conversations": ("sft", make_rows),
    "completions": ("sft", make_completions),
    "texts": ("pretrain", make_texts),
    "dpo": ("dpo", make_pairs),
    "kto": ("kto", make_judged),
    "orpo": ("orpo", make_pairs),
}
# Between a product with packed weights and one with the same unpacked; of 8 bits the activations
# are rounded, too, and only while training.
ROUNDING: dict[Bits, float] = {16: 1e-4, 4: 1e-3, 8: 1e-2}


@dataclass(frozen=True, slots=True)
class Lesson:
    """The rows of one objective, with what the base says to them, and its loss on them."""

    section: ObjectiveSection
    rows: list[TokenRow]
    before: float


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return {kind: make(folder / f"{kind}.jsonl", ROWS) for kind, (_, make) in KINDS.items()}


@pytest.fixture(scope="module")
def lessons() -> dict[tuple[str, Bits], Lesson]:
    """One for each kind of rows and bits of the base, made once."""
    return {}


def events(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


def plain(folder: Path) -> Any:
    """As anybody would load it."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def fresh_base(folder: Path, recipe: Recipe) -> Any:
    """The model that an adapter of this recipe belongs to: rounded where that is in few bits."""
    if recipe.method.base_bits == 16:
        return plain(folder)
    return plain_weights(load_base(folder, recipe, "cpu")).eval()


@torch.no_grad()
def loss_of(model: Any, lesson: Lesson) -> float:
    """Of all rows at once, without dropout."""
    loss = objective_loss(lesson.section, lesson.rows)
    batch = collate(lesson.rows, pad=0)
    loss.begin(model, [batch])
    found = loss.rows(model, batch)
    return float(found.sums.sum() / found.weights.sum())


@torch.no_grad()
def logits_of(model: Any, rows: list[TokenRow]) -> Tensor:
    logits: Tensor = model(input_ids=collate(rows, pad=0)["input_ids"]).logits
    return logits


@torch.no_grad()
def learn(run: RunDirectory, base: Any) -> Lesson:
    """What a run has to learn."""
    section = load_recipe(run.recipe).objective
    rows = load_prepared(run.data).train
    if section.spec.is_compared:
        batch = collate(rows, pad=0)
        both = answer_logs(base, batch["input_ids"], batch["labels"]).view(2, -1).T.tolist()
        rows = [replace(row, reference=found) for row, found in zip(rows, both, strict=True)]
    lesson = Lesson(section, rows, 0.0)
    return replace(lesson, before=loss_of(base, lesson))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_learns_and_leaves_what_it_learned(
    new_run: NewRun,
    train_here: TrainHere,
    files: dict[str, Path],
    lessons: dict[tuple[str, Bits], Lesson],
    tiny_model: Path,
    name: MethodName,
    kind: str,
) -> None:
    run = new_run(
        model={"id": str(tiny_model), "precision": "fp32"},
        method={"name": name, "rank": 4, "alpha": 8.0, "layers": 1, "virtual_tokens": 8,
                "lr_ratio": 4},
        objective=KINDS[kind][0],
        data={"train": [str(files[kind])], "eval": [str(files[kind])]},  # what it learns
        training={"micro_batch": 8, "gradient_accumulation": 1, "max_steps": STEPS, "epochs": 9,
                  "eval_steps": STEPS, "save_steps": 99, "learning_rate": RATES.get(name, 2e-2)},
    )  # fmt: skip
    assert train_here(run) == 0, events(run, "error")
    recipe, method = load_recipe(run.recipe), METHODS[name]
    base = fresh_base(tiny_model, recipe)
    at = kind, recipe.method.base_bits
    lesson = lessons[at] = lessons.get(at) or learn(run, base)
    tuned = PeftModel.from_pretrained(base, run.adapter) if method.has_adapter else None
    after = loss_of((tuned or plain(run.merged)).eval(), lesson)
    assert after < lesson.before - 0.005
    begin, end = events(run, "eval")
    rounding = ROUNDING[recipe.method.base_bits]
    assert end["loss"] == pytest.approx(after, abs=rounding)
    if method.kind != "soft-prompt":
        assert begin["loss"] == pytest.approx(lesson.before, abs=max(rounding, 1e-3))
    check_measures(lesson.section, begin, end)
    make_merged(run, recipe, tiny_model, load_prepared(run.data), Reporter(run))
    assert (run.merged / "config.json").is_file() == method.merges
    if tuned is not None and method.merges:
        merged = plain(run.merged)
        difference = logits_of(merged, lesson.rows) - logits_of(tuned, lesson.rows)
        assert float(difference.abs().max()) < 1e-3
        assert loss_of(merged, lesson) == pytest.approx(after, abs=1e-4)


def check_measures(section: ObjectiveSection, begin: Event, end: Event) -> None:
    """What is told beside the loss: that the better answers move away from the worse."""
    if section.spec.is_of_tokens:
        assert end["perplexity"] < begin["perplexity"]
        assert "margin" not in end
        return
    assert "perplexity" not in end
    assert {"rewards_chosen", "rewards_rejected", "margin", "accuracy"} <= set(end)
    assert ("kl" in end) == (section.name == "kto")
    assert end["margin"] > begin["margin"]
    if section.spec.is_compared:  # else the better answer's own likelihood weighs most
        assert end["margin"] > begin["margin"] + 0.01
        assert end["accuracy"] >= 0.7


ANSWER = {"role": "assistant", "content": "red"}
QUESTION = {"role": "user", "content": "one red"}
OF_FORMAT: dict[FormatName, dict[str, Any]] = {
    "messages": {"messages": [QUESTION, ANSWER]},
    "sharegpt": {"conversations": [{"from": "human", "value": "one red"},
                                   {"from": "gpt", "value": "red"}]},
    "alpaca": {"instruction": "one red", "input": "", "output": "red"},
    "prompt-completion": {"prompt": "one red", "completion": "red"},
    "text": {"text": "one red two"},
    "preference": {"prompt": "one red", "chosen": "red", "rejected": "one"},
    "kto": {"prompt": "one red", "completion": "red", "label": True},
}  # fmt: skip
REFUSED = [
    (name, found)
    for name, objective in OBJECTIVES.items()
    for found in OF_FORMAT
    if found not in objective.formats
]


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What has been loaded of weights; nothing can be."""
    loaded: list[str] = []

    def load(folder: Any, **options: Any) -> None:
        loaded.append(str(folder))
        raise AssertionError("weights are loaded")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load)
    return loaded


def test_every_format_is_tried() -> None:
    assert set(OF_FORMAT) == set(get_args(FormatName)) - {"unknown"}
    assert len(REFUSED) == 19


@pytest.mark.parametrize(("objective", "found"), REFUSED)
def test_rows_that_teach_nothing_of_it_are_refused_before_loading(
    new_run: NewRun,
    train_here: TrainHere,
    unread: list[str],
    tmp_path: Path,
    objective: ObjectiveName,
    found: FormatName,
) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text((json.dumps(OF_FORMAT[found]) + "\n") * 4)
    run = new_run(objective=objective, data={"train": [str(file)]})
    assert train_here(run) == 1
    [error] = events(run, "error")
    spec = OBJECTIVES[objective]
    assert error["message"] == f"{spec.title} needs {spec.needs}; these are {found} rows."
    assert error["remedy"].startswith("Set objective to ")
    assert "importing" not in [event["stage"] for event in events(run, "state")]
    assert not unread


@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_what_no_process_has_whole_is_refused_before_loading(
    new_run: NewRun,
    train_here: TrainHere,
    unread: list[str],
    files: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    objective: ObjectiveName,
) -> None:
    """Weights that change cannot be compared with what they were, where each process has a part."""
    run = new_run(method="full", objective=objective, data={"train": [str(files[objective])]})
    monkeypatch.setattr(session, "_sharding", lambda *given: "fsdp")
    assert train_here(run) == 1
    [error] = events(run, "error")
    assert "no process holds all of it" in error["message"]
    assert not unread
