"""How many processes train together, on what, and with which share of a step."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from accelerate.utils import GradientAccumulationPlugin
from transformers.trainer_pt_utils import AcceleratorConfig

from core.errors import UserError
from core.hardware.machine import Gpu, Machine
from core.recipe import HardwareSection, Recipe, parse_recipe
from core.runs.directory import RunDirectory
from core.runs.nodes import Node, named_for, node_commands, node_of, read_node, write_node
from core.training import sharding as sharding_module
from core.training.device import environment_of
from core.training.launch import launch_command
from core.training.ranks import agreed, largest, means_of_all, mine, summed, together
from core.training.sharding import (
    check_sharding,
    loading_for,
    parts_identity,
    sharding_options,
)
from core.training.together import Crew, crew, place, shared

GIB = 1024**3


def machine(count: int) -> Machine:
    gpus = tuple(
        Gpu(n, uuid=f"GPU-{n}", name="L4", total=24 * GIB, free=(20 + n) * GIB)
        for n in range(count)
    )
    return Machine(0.0, gpus, "", None, "CPU", 8, None, 64 * GIB, 40 * GIB, None, None)


def recipe(**sections: Any) -> Recipe:
    return parse_recipe({"name": "r", "model": "m", "data": "d", **sections}, "test")


def team(count: int, **hardware: Any) -> Crew:
    return crew(HardwareSection(**hardware), machine(count))


def test_who_takes_part() -> None:
    assert team(4) == Crew(1)
    assert team(0, gpus=1) == Crew(1)
    assert [gpu.index for gpu in team(4, gpus=2).gpus] == [2, 3]  # those with most free memory
    assert [gpu.index for gpu in team(4, gpus=[3, 0]).gpus] == [3, 0]
    assert team(4, gpus="all").count == 4
    assert team(1, gpus="all") == Crew(1)
    assert team(0, gpu="cpu", gpus=3) == Crew(3)
    assert team(4, gpu="cpu", gpus="all") == Crew(1)


@pytest.mark.parametrize(
    ("count", "hardware", "sentence"),
    [
        (1, {"gpus": 2}, "asks for 2 GPUs; this machine has 1"),
        (0, {"gpus": 2}, "this machine has none"),
        (2, {"gpus": [0, 5]}, "no GPU 5 on this machine; there is 0 (L4), 1 (L4)"),
        (2, {"gpus": [0, 0]}, "without repetition"),
        (2, {"gpu": "1", "gpus": 2}, "names one GPU (1) and hardware.gpus asks for 2 GPUs"),
        (2, {"gpu": "cpu", "gpus": [0, 1]}, "hardware.gpu is cpu"),
    ],
)
def test_what_is_not_there_is_said(count: int, hardware: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        team(count, **hardware)
    assert sentence in caught.value.message
    assert caught.value.remedy


def test_slices_of_a_card_cannot_train_together() -> None:
    cut = Gpu(0, mig=True, slices=(Gpu(0, uuid="MIG-a", free=1), Gpu(0, uuid="MIG-b", free=1)))
    with pytest.raises(UserError, match="MIG"):
        crew(HardwareSection(gpus=2), replace(machine(0), gpus=(cut,)))


@pytest.mark.parametrize(
    ("micro", "accumulation", "world", "share"),
    [(4, 4, 1, (4, 4)), (4, 4, 2, (4, 2)), (4, 4, 8, (2, 1)), (8, 1, 2, (4, 1)), (3, 4, 4, (3, 1)),
     (4, 3, 2, (3, 2))],
)  # fmt: skip
def test_the_rows_of_a_step_are_shared(
    micro: int, accumulation: int, world: int, share: tuple[int, int]
) -> None:
    whole = recipe(training={"micro_batch": micro, "gradient_accumulation": accumulation})
    part = shared(whole, world).training
    assert (part.micro_batch, part.gradient_accumulation) == share
    assert part.effective_batch * world == whole.training.effective_batch


def test_rows_that_cannot_be_shared() -> None:
    with pytest.raises(UserError, match="3 processes cannot share the 16 rows"):
        shared(recipe(), 3)
    with pytest.raises(UserError, match="multiple of 32") as caught:
        shared(recipe(), 32)
    assert "16 rows" in caught.value.message


def test_the_command_line_of_torchrun(tmp_path: Any) -> None:
    run = RunDirectory(tmp_path)
    alone = launch_command(run, recipe(), Crew(2), None)
    assert alone[1:4] == ["-P", "-m", "torch.distributed.run"]
    assert {"--standalone", "--nproc-per-node=2", "--max-restarts=0"} <= set(alone)
    two = recipe(hardware={"nodes": 2})
    words = launch_command(run, two, Crew(4), Node(1, "10.0.0.1:3000"))
    assert {"--nnodes=2", "--node-rank=1", "--master-addr=10.0.0.1", "--master-port=3000"} <= {
        *words
    }
    assert words[-1] == str(tmp_path)


def test_nodes_and_their_commands(tmp_path: Any) -> None:
    two = recipe(hardware={"nodes": 2})
    assert node_of(recipe(), None, None) is None
    assert node_of(two, 1, "head") == Node(1, "head:29500")
    assert node_of(two, 0, "10.0.0.1:99") == Node(0, "10.0.0.1:99")
    assert node_commands(two, "my recipe.yaml", "head") == [
        "tunedeck train 'my recipe.yaml' --main-address head --node-rank 0",
        "tunedeck train 'my recipe.yaml' --main-address head --node-rank 1",
    ]
    for asked, sentence in (
        ((two, None, None), "each needs its number"),
        ((two, 2, "head"), "none of 0 to 1"),
        ((two, 0, "head:port"), "no address"),
        ((recipe(), 0, "head"), "for one machine"),
    ):
        with pytest.raises(UserError, match=sentence):
            node_of(*asked)
    run = RunDirectory(tmp_path)
    assert read_node(run) is None
    write_node(run, Node(1, "head:29500"))
    assert read_node(run) == Node(1, "head:29500")
    assert named_for(two, Node(0, "h:1")).name == "r"
    assert named_for(two, Node(1, "h:1")).name == "r-node1"
    long = recipe(name="n" * 60)
    assert named_for(long, Node(12, "h:1")).name.endswith("n-node12")


def test_alone_nobody_is_asked() -> None:
    assert place().alone
    assert agreed(True, False) == [True, False]
    assert summed(7) == largest(7) == 7
    assert mine([1, 2, 3]) == [1, 2, 3]
    assert together(["a", "b"], 2) == ["a", "b"]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_everybody_measures_as_often(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """And the answers come back in order, those that were only there to fill up left out."""
    items = list(range(count))
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "3")
        parts.append(mine(items, lambda last: (last, "again")))
    assert all(type(item) is int for item in chain(*parts)) == (count % 3 == 0)
    assert len({len(part) for part in parts}) == 1
    monkeypatch.setattr("core.training.ranks.answers", lambda mine: parts)
    assert together(parts[0], count) == items


def test_means_are_those_of_all_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many each process has of them, and though one has none."""
    parts = [{"a": (6.0, 3), "b": (1.0, 1)}, {"a": (10.0, 1)}, {}]
    monkeypatch.setattr("core.training.ranks.answers", lambda mine: parts)
    assert means_of_all(parts[2]) == {"a": 4.0, "b": 1.0}


def test_what_parts_need(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = Crew(2, (Gpu(0), Gpu(1)))
    monkeypatch.setattr(sharding_module, "find_spec", lambda name: None)
    for hardware, method, crew_, sentence in (
        ({"sharding": "fsdp"}, "lora", Crew(2), "needs GPUs"),
        ({"sharding": "zero3"}, "lora", gpus, "DeepSpeed is not installed"),
    ):
        with pytest.raises(UserError, match=sentence):
            check_sharding(recipe(hardware=hardware, method=method), crew_, 2)
    monkeypatch.setattr(sharding_module, "find_spec", lambda name: object())
    check_sharding(recipe(hardware={"sharding": "zero3"}), gpus, 2)
    check_sharding(recipe(hardware={"sharding": "fsdp"}, method="qlora"), gpus, 2)
    check_sharding(recipe(hardware={"sharding": "fsdp"}), Crew(1), 1)
    with pytest.raises(UserError, match="4 or 8 bits"):
        check_sharding(recipe(hardware={"sharding": "zero3"}, method="qlora"), gpus, 2)
    with pytest.raises(UserError, match="under DoRA"):
        check_sharding(recipe(hardware={"sharding": "zero3"}, method="dora"), gpus, 2)
    check_sharding(recipe(hardware={"sharding": "fsdp"}, method="dora"), gpus, 2)
    with pytest.raises(UserError, match="fsdp does not go with VeRA"):
        recipe(hardware={"sharding": "fsdp"}, method="vera")
    eight = {"name": "lora", "bits": 8}
    with pytest.raises(UserError, match="8 bits"):
        check_sharding(recipe(hardware={"sharding": "fsdp"}, method=eight), gpus, 2)


def test_the_options_of_the_trainer() -> None:
    assert sharding_options("ddp", checkpointing=True, precision="bf16") == {
        "activation_checkpointing": True
    }
    fsdp = sharding_options("fsdp", checkpointing=True, precision="bf16")
    assert fsdp["activation_checkpointing"] is True
    assert "activation_checkpointing" not in fsdp["fsdp_config"]  # it would hide the adapter
    accumulation = AcceleratorConfig(**fsdp["accelerator_config"]).gradient_accumulation_kwargs
    assert GradientAccumulationPlugin(num_steps=1, **accumulation).sync_each_batch
    zero = sharding_options("zero3", checkpointing=False, precision="fp32")
    assert zero["deepspeed"]["zero_optimization"]["stage"] == 3
    assert zero["bf16"] is False
    assert parts_identity("zero3", 4) != parts_identity("zero3", 8)
    assert parts_identity("fsdp", 4) == parts_identity("fsdp", 8)


def test_deepspeed_computes_in_the_type_of_the_weights() -> None:
    """Its `auto` asks the trainer, which elsewhere is told of no mixed precision."""
    for precision in ("bf16", "fp32"):
        options = sharding_options("zero3", checkpointing=False, precision=precision)
        assert options["deepspeed"]["bf16"] == {"enabled": "auto"}
        assert options["bf16"] == (precision == "bf16")


def test_deepspeed_loads_before_the_trainer_can_say_what_auto_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[dict[str, Any]] = []
    monkeypatch.setattr("transformers.integrations.HfDeepSpeedConfig", given.append)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        with loading_for("zero3", dtype):
            config = given.pop()
        assert config["zero_optimization"] == {"stage": 3}
        assert "auto" not in json.dumps(config)
        kinds = {"bf16": torch.bfloat16, "fp16": torch.float16}
        assert all(config[name]["enabled"] is (dtype is kind) for name, kind in kinds.items())


def test_what_one_process_does_stays_on_the_gpus_that_were_named() -> None:
    assert HardwareSection().one_gpu == "auto"
    assert HardwareSection(gpus=[3, 2]).one_gpu == "3"
    assert HardwareSection(gpus=2).one_gpu == "auto"
    assert HardwareSection(gpu="1").one_gpu == "1"
    assert HardwareSection(gpu="cpu", gpus=2).one_gpu == "cpu"


def test_the_environment_of_a_crew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.training.device.cores", lambda: 8)
    two = environment_of(Crew(2, (Gpu(3, uuid="GPU-c"), Gpu(1))))
    assert two["CUDA_VISIBLE_DEVICES"] == "GPU-c,1"
    assert two["OMP_NUM_THREADS"] == "4"
    assert "NCCL_P2P_DISABLE" not in two
    assert environment_of(Crew(3))["CUDA_VISIBLE_DEVICES"] == ""
    consumer = Crew(2, (Gpu(0, name="NVIDIA GeForce RTX 4090"), Gpu(1)))
    assert environment_of(consumer)["NCCL_P2P_DISABLE"] == "1"
