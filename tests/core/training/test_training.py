"""Real trainings of a tiny model: every method learns, saves and says what it does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core.recipe import load_recipe
from core.runs.directory import RunDirectory
from core.runs.events import Event, EventReader
from core.runs.sentences import sentence
from core.runs.state import stored_state
from core.training import watch
from core.training.checkpoints import checkpoints
from core.training.loading import weights_dtype

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]


def events(run: RunDirectory, kind: str) -> list[Event]:
    return [event for event in EventReader(run.events).read() if event["kind"] == kind]


def losses(run: RunDirectory) -> dict[int, float]:
    return {event["step"]: event["loss"] for event in events(run, "log")}


def test_lora_learns_and_leaves_an_adapter(new_run: NewRun, train_here: TrainHere) -> None:
    run = new_run(training={"epochs": 3})
    assert train_here(run) == 0
    curve = losses(run)
    assert list(curve) == list(range(1, 22))
    assert sum(list(curve.values())[-3:]) < sum(list(curve.values())[:3]) - 0.3
    stages = [event["stage"] for event in events(run, "state")]
    assert stages == ["downloading", "encoding", "importing", "loading", "training"]
    evaluations = events(run, "eval")
    assert [event["step"] for event in evaluations] == [0, 5, 10, 15, 20, 21]
    assert evaluations[-1]["loss"] < evaluations[0]["loss"] - 0.3
    assert [event["step"] for event in events(run, "checkpoint")] == [3, 6, 9, 12, 15, 18]
    assert [path.name for path in checkpoints(run)] == ["checkpoint-15", "checkpoint-18"]
    state = stored_state(run)
    assert (state.step, state.total_steps) == (21, 21)
    assert state.loss == curve[21]
    assert_the_next_plan_can_learn_from(run)
    assert_adapter_loads(run)


def assert_the_next_plan_can_learn_from(run: RunDirectory) -> None:
    """Its speed, on this device, with what it was trained with."""
    from core.planning.learning import measurement_of

    told = measurement_of(run)
    assert told is not None
    recipe = load_recipe(run.recipe)
    assert (told.method, told.micro_batch) == ("lora", recipe.training.micro_batch)
    assert told.gradient_checkpointing is False
    ledger = json.loads((run.data / "ledger.json").read_text())
    assert told.tokens_per_row == pytest.approx(ledger["train_tokens"] / ledger["train_rows"])
    speeds = sorted(event["tokens_per_s"] for event in events(run, "log"))
    assert speeds[0] < told.tokens_per_s < speeds[-1]
    assert told.factor > 0


def assert_adapter_loads(run: RunDirectory) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    recipe = json.loads((run.adapter / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(recipe["base_model_name_or_path"])
    model = PeftModel.from_pretrained(base, run.adapter)
    updates = [p for name, p in model.named_parameters() if "lora_B" in name]
    assert len(updates) == 14
    assert all(bool(update.abs().sum() > 0) for update in updates)
    tokenizer = AutoTokenizer.from_pretrained(run.adapter)
    assert "<|im_start|>assistant" in tokenizer.apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False, add_generation_prompt=True
    )


def test_the_ledger_is_what_was_trained_on(new_run: NewRun, train_here: TrainHere) -> None:
    run = new_run(training={"epochs": 1})
    assert train_here(run) == 0
    ledger = json.loads((run.data / "ledger.json").read_text())
    assert ledger["rows"] == sum(ledger["reasons"].values()) == 64
    assert ledger["train_rows"] + ledger["eval_rows"] == 64
    assert events(run, "log")[-1]["tokens"] == ledger["train_tokens"]


def test_lists_that_are_not_read_are_told(
    new_run: NewRun, train_here: TrainHere, rows_file: Path, tmp_path: Path
) -> None:
    rows = [json.loads(line) for line in rows_file.read_text().splitlines()]
    data = tmp_path / "rows.json"
    data.write_text(json.dumps({"train": rows[6:], "test": rows[:6], "more": rows[:3]}))
    run = new_run(data={"train": [str(data)]}, training={"max_steps": 1})
    assert train_here(run) == 0
    (warning,) = [event for event in events(run, "warning") if event["code"] == "unread-lists"]
    assert "Read: train. Not read: more (3)." in warning["message"]
    (told,) = events(run, "rows")
    assert (told["train"], told["held_out"]) == (len(rows) - 6, 6)
    assert told["eval_source"] == [f"{data}/test"]
    assert sentence(told) == f"{len(rows) - 6} rows to train on, 6 held out (from test)"


def test_qlora_trains_on_a_four_bit_base(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training import session

    seen: list[set[str]] = []

    def spy(model: Any, method: Any, steps: int) -> Any:
        seen.append({type(module).__name__ for module in model.modules()})
        return original(model, method, steps)

    original = session.with_adapter
    monkeypatch.setattr(session, "with_adapter", spy)
    run = new_run(method={"name": "qlora", "rank": 8})
    assert train_here(run) == 0
    assert "Linear4bit" in seen[0]
    assert events(run, "eval")[-1]["loss"] < events(run, "eval")[0]["loss"]
    assert (run.adapter / "adapter_model.safetensors").is_file()


def test_full_training_leaves_a_model(new_run: NewRun, train_here: TrainHere) -> None:
    from transformers import AutoModelForCausalLM

    run = new_run(
        method={"name": "full"}, training={"learning_rate": 5e-3, "max_steps": 6, "epochs": 9}
    )
    assert train_here(run) == 0
    assert list(losses(run)) == list(range(1, 7))
    assert events(run, "eval")[-1]["loss"] < events(run, "eval")[0]["loss"]
    model = AutoModelForCausalLM.from_pretrained(run.merged)
    assert model.config.use_cache
    assert model.dtype is weights_dtype("auto")
    assert not run.adapter.exists()


def test_intents_are_obeyed(new_run: NewRun, train_here: TrainHere) -> None:
    run = new_run(training={"epochs": 1, "save_steps": 100, "eval_steps": 100})
    for intent in ("checkpoint", "evaluate", "sample"):
        (run.control / intent).touch()
    assert train_here(run) == 0
    assert [event["step"] for event in events(run, "checkpoint")] == [1]
    assert [event["step"] for event in events(run, "eval")] == [0, 1, 7]
    [sample] = events(run, "sample")
    assert sample["step"] == 1
    assert sample["prompt"]
    assert not list(run.control.iterdir())


def test_a_stop_saves_a_checkpoint(new_run: NewRun, train_here: TrainHere) -> None:
    run = new_run(training={"save_steps": 100})
    (run.control / "stop").touch()
    assert train_here(run) == 0
    assert list(losses(run)) == [1]
    assert [path.name for path in checkpoints(run)] == ["checkpoint-1"]
    assert stored_state(run).phase == "stopping"
    assert not run.adapter.exists()


def test_not_a_number_is_shown_and_ends_the_run(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training.trainer import Tuner

    original = Tuner.compute_loss

    def poisoned(self: Any, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        loss = original(self, model, inputs, *rest, **options)
        return loss * float("nan") if self.state.global_step >= 4 else loss

    monkeypatch.setattr(Tuner, "compute_loss", poisoned)
    run = new_run(training={"save_steps": 1})
    assert train_here(run) == 1
    curve = losses(run)
    assert all(math.isfinite(curve[step]) for step in range(1, 5))
    assert all(math.isnan(curve[step]) for step in range(5, 5 + watch.NAN_LIMIT))
    assert max(curve) == 4 + watch.NAN_LIMIT
    assert [event["code"] for event in events(run, "warning")] == ["nan-loss"]
    [error] = events(run, "error")
    assert error["code"] == "nan-loss"
    assert "learning_rate" in error["remedy"]
    kept = checkpoints(run)
    assert [path.name for path in kept] == ["checkpoint-3", "checkpoint-4"]
    assert_finite(kept[-1])


def assert_finite(checkpoint: Any) -> None:
    from safetensors.torch import load_file

    weights = load_file(checkpoint / "adapter_model.safetensors")
    assert weights
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_what_goes_wrong_is_one_sentence(
    new_run: NewRun, train_here: TrainHere, capsys: pytest.CaptureFixture[str]
) -> None:
    run = new_run(model="/nowhere/at/all")
    assert train_here(run) == 1
    [error] = events(run, "error")
    assert "/nowhere/at/all" in error["message"]
    assert "Traceback" not in json.dumps(error)


def test_a_full_disk_costs_a_checkpoint_and_no_more(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training import trainer

    original = trainer.publish

    def full_at_six(folder: Any, place: Any) -> None:
        if place.name == "checkpoint-6":
            raise OSError(28, "No space left on device", str(folder))
        original(folder, place)

    monkeypatch.setattr(trainer, "publish", full_at_six)
    run = new_run(training={"epochs": 1.2})
    assert train_here(run) == 0
    [warning] = events(run, "warning")
    assert warning["code"] == "disk-full"
    assert [path.name for path in checkpoints(run)] == ["checkpoint-3"]
    assert (run.adapter / "adapter_config.json").is_file()


def out_of_memory_above(rows: int, from_step: int, patch: pytest.MonkeyPatch) -> None:
    """Batches of more rows than this do not fit from a step on."""
    from core.training.trainer import Tuner

    original = Tuner.compute_loss

    def limited(self: Any, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        if self.state.global_step >= from_step and len(inputs["labels"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, model, inputs, *rest, **options)

    patch.setattr(Tuner, "compute_loss", limited)


@pytest.mark.parametrize("from_step", [0, 4])
def test_out_of_memory_is_recovered_from(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch, from_step: int
) -> None:
    sizes = {"micro_batch": 4, "gradient_accumulation": 2, "epochs": 1}
    run, smaller = (
        new_run(training=sizes),
        new_run(training={**sizes, "micro_batch": 2, "gradient_accumulation": 4}),
    )
    assert train_here(smaller) == 0
    out_of_memory_above(2, from_step, monkeypatch)
    assert train_here(run) == 0
    [warning] = events(run, "warning")
    assert warning["code"] == "out-of-memory-recovered"
    recipe = load_recipe(run.recipe)
    assert (recipe.training.micro_batch, recipe.training.gradient_accumulation) == (2, 4)
    effective = load_recipe(run.path / "effective.yaml").training
    assert (effective.micro_batch, effective.gradient_accumulation) == (2, 4)
    assert list(losses(run)) == list(losses(smaller))
    for step, loss in losses(smaller).items():
        # Exact where the larger micro-batch never took a step, else up to bf16's rounding.
        assert losses(run)[step] == pytest.approx(loss, rel=0.02 if from_step else 1e-9)
    tokens = [[event["tokens"] for event in events(each, "log")] for each in (run, smaller)]
    assert tokens[0] == tokens[1]


def test_out_of_memory_at_one_row_ends_the_run(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_above(0, 2, monkeypatch)
    run = new_run(training={"micro_batch": 2, "gradient_accumulation": 1})
    assert train_here(run) == 1
    [error] = events(run, "error")
    assert error["code"] == "gpu-out-of-memory"
    assert "max_length" in error["remedy"]
    assert [path.name for path in checkpoints(run)] == ["checkpoint-2"]


def test_the_fused_head_of_trl_gives_the_same_curve(
    new_run: NewRun, train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.training.trainer import Tuner

    ours, fused = (new_run(training={"max_steps": 4}) for _ in range(2))
    assert train_here(ours) == 0
    monkeypatch.setattr(Tuner, "_wants_fused_head", lambda self, labels: True)
    assert train_here(fused) == 0
    for step, loss in losses(ours).items():
        assert losses(fused)[step] == pytest.approx(loss, rel=0.02)
