from __future__ import annotations

import json

from core.memory.formula import predict
from core.models.catalogue import card_for
from core.planning.as_json import estimate_as_json, plan_as_json
from core.planning.planner import plan
from tests.core.planning.test_planner import CHAT, machine

ROW = {
    "model", "method", "micro_batch", "gradient_accumulation", "seq_length",
    "gradient_checkpointing", "optimizer", "peak_bytes", "fits", "seconds", "dollars", "why",
}  # fmt: skip


def test_a_plan_has_the_promised_shape() -> None:
    tree = json.loads(json.dumps(plan_as_json(plan(machine(24), CHAT))))
    assert set(tree) >= {"free_bytes", "gpu", "candidates", "recommended", "levers"}
    assert set(tree["candidates"][tree["recommended"]]) >= ROW
    assert "RTX 4090" in tree["gpu"]


def test_a_plan_without_anything_that_fits_has_levers() -> None:
    tree = plan_as_json(plan(machine(0.7), CHAT))
    assert tree["recommended"] is None
    assert set(tree["levers"][0]) == {"text", "saves", "costs"}


def test_an_estimate_comes_apart_into_parts_that_add_up() -> None:
    shape = card_for("Qwen/Qwen3-8B").shape
    tree = json.loads(
        json.dumps(estimate_as_json("Qwen/Qwen3-8B", "qlora", predict(shape, "qlora")))
    )
    assert sum(tree["parts"].values()) == tree["peak_bytes"]
    assert tree["low_bytes"] < tree["peak_bytes"] < tree["high_bytes"]
    assert tree["allocated_bytes"] <= tree["reserved_bytes"] <= tree["peak_bytes"]
    assert tree["how"] == "formula"
