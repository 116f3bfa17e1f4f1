"""One of several processes, simulated: what it holds, and what it gathers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch.distributed as group

from core.errors import UserError
from core.memory import simulated
from core.memory.formula import LOADED_WHOLE, predict_setup
from core.memory.setup import Setup
from core.memory.sharding import NCCL_BUFFERS, assumptions
from core.memory.simulation.worker import simulate
from core.models.catalogue import card_for

LAYER, TABLE = 3_540_096, 49_152 * 576  # parameters; embedding and head are one
SMOL = replace(  # four layers of its thirty: as true, and quicker
    card_for("HuggingFaceTB/SmolLM2-135M").shape,
    layers=4,
    parameters=4 * LAYER + TABLE + 576,
    in_linear=4 * (LAYER - 2 * 576),
)
LLAMA = card_for("meta-llama/Llama-3.1-8B").shape
WEIGHTS = 2 * SMOL.parameters
TENSORS = 512 * 400  # what rounding may add

FULL = Setup(SMOL, "full", seq_length=256, gpus=4, sharding="fsdp")


def test_each_of_four_holds_a_quarter_and_sums_gradients_of_a_layer() -> None:
    found = simulate(FULL)
    assert found["parts"]["weights"] == pytest.approx(WEIGHTS / 4, abs=TENSORS)
    assert found["parts"]["optimizer"] == pytest.approx(2 * WEIGHTS / 4, abs=2 * TENSORS)
    assert sum(found["parts"].values()) == found["allocated"]
    formula = predict_setup(FULL)
    assert formula.allocated == pytest.approx(found["allocated"], rel=0.06)
    assert formula.reserved == pytest.approx(found["reserved"], rel=0.15)
    assert not group.is_initialized(), "no process group outlives a simulation"


def test_gradients_of_a_model_in_parts_wait_in_parts_for_the_last_micro_batch() -> None:
    once, more = simulate(FULL), simulate(replace(FULL, accumulates=True))
    assert 0 < more["allocated"] - once["allocated"] <= WEIGHTS / 4 + TENSORS
    formula = predict_setup(replace(FULL, accumulates=True))
    assert formula.allocated == pytest.approx(more["allocated"], rel=0.06)


def test_a_copy_on_each_holds_its_gradients_twice() -> None:
    """In buckets that are there from the beginning."""
    alone = Setup(SMOL, "lora", rank=64, seq_length=256)
    adapter = predict_setup(alone).parts.adapter
    copies = simulate(replace(alone, gpus=8, sharding="ddp"))
    assert copies["allocated"] - simulate(alone)["allocated"] == pytest.approx(adapter, abs=TENSORS)
    assert copies["parts"]["workspace"] > adapter


def test_a_packed_base_is_whole_until_it_is_split() -> None:
    """And its scales, which are no parameters, stay whole: 0.0159 bytes of each."""
    many = Setup(LLAMA, "qlora", seq_length=512, gpus=64, sharding="fsdp")
    found = predict_setup(many)
    assert found.note == LOADED_WHOLE
    assert found.parts.weights > predict_setup(replace(many, gpus=1)).parts.weights
    scales = LLAMA.in_linear * (1 / 64 + 4 / 16384)
    longer = predict_setup(replace(many, micro_batch=64)).parts
    assert longer.weights == pytest.approx(scales + (found.parts.weights - scales) / 65, rel=0.01)


def test_what_is_assumed_is_said() -> None:
    assert assumptions(Setup(LLAMA, "lora")) == ""
    assert "assumed" in assumptions(Setup(LLAMA, "lora", gpus=2))
    alone, copies = (predict_setup(Setup(LLAMA, "lora", gpus=gpus)).parts for gpus in (1, 2))
    assert copies.runtime - alone.runtime == pytest.approx(NCCL_BUFFERS, rel=0.1)


@pytest.mark.parametrize(
    ("setup", "sentence"),
    [
        (replace(FULL, optimizer="adamw-8bit"), "cannot split the states of adamw-8bit"),
        (Setup(SMOL, "prompt", gpus=2, sharding="fsdp"), "prompt tuning reads or writes single"),
        (Setup(SMOL, "lora-8bit", gpus=2, sharding="fsdp"), "FSDP cannot split a base in 8 bits"),
    ],
)
def test_what_cannot_be_split_or_simulated_is_said(setup: Setup, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        simulated.simulate(setup)
