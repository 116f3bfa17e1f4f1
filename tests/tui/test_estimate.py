"""`tunedeck estimate`: what it answers and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from core.errors import UserError
from core.memory import simulated
from core.memory.measured import Seen, keep
from core.memory.setup import Setup
from core.methods import METHODS
from core.models.catalogue import card_for
from core.planning import known_memory
from core.planning.calibration import gpu_device, installed_stack
from core.units import GIB
from tests.core.planning.test_planner import machine
from tui.commands.planning import estimate

MODEL = "Qwen/Qwen3-8B"
PARTS = (
    "weights adapter gradients optimizer activations loss workspace runtime".split()  # noqa: SIM905
)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))


def asked(*words: str) -> str:
    result = CliRunner().invoke(estimate, ["--model", MODEL, *words], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def as_json(*words: str) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(asked(*words, "--json"))
    return tree


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_has_an_estimate_that_adds_up(method: str) -> None:
    for bits in METHODS[method].bits:  # type: ignore[index]
        found = as_json("--method", method, "--bits", str(bits))
        assert list(found["parts"]) == PARTS
        assert sum(found["parts"].values()) == found["peak_bytes"]
        assert found["low_bytes"] < found["peak_bytes"] < found["high_bytes"]
        assert found["allocated_bytes"] < found["reserved_bytes"] < found["peak_bytes"]
        assert found["stages"]["train"] == found["peak_bytes"]
        assert found["how"] == "formula"


def test_objectives_and_gpus_have_their_price() -> None:
    alone = as_json("--method", "full")
    assert as_json("--method", "full", "--gpus", "8", "--sharding", "fsdp")["peak_bytes"] < (
        alone["peak_bytes"] / 4
    )
    copies = as_json("--method", "full", "--gpus", "8")
    assert copies["peak_bytes"] > alone["peak_bytes"]
    assert "assumed" in copies["assumed"]
    assert alone["assumed"] == ""
    assert "NCCL's buffers are assumed" in asked("--method", "full", "--gpus", "8")
    answers, pairs = as_json("--method", "lora"), as_json("--method", "lora", "--objective", "dpo")
    assert pairs["parts"]["loss"] > answers["parts"]["loss"]
    assert pairs["peak_bytes"] > answers["peak_bytes"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--method", "loha", "--bits", "4"], "LoHa trains on a base of 16 or 8 bits, not of 4"),
        (["--method", "lora", "--targets", "nonsense"], "no layer called nonsense"),
        (["--method", "lora", "--targets", "q_proj,nonsense"], "no layer called nonsense"),
        (["--method", "last-layers", "--layers", "99"], "has 36 layers, not 99"),
        (["--method", "lora", "--sharding", "fsdp"], "over several GPUs"),
        (["--method", "qlora", "--gpus", "2", "--sharding", "zero3"], "ZeRO-3 cannot split"),
        (
            ["--method", "full", "--gpus", "2", "--sharding", "fsdp", "--optimizer", "adamw-8bit"],
            "FSDP cannot split the states",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        asked(*words)


def test_an_architecture_that_is_not_known_is_said_to_be_assumed(tmp_path: Path) -> None:
    folder = tmp_path / "novel"
    folder.mkdir()
    config = {"model_type": "novel", "hidden_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 4, "vocab_size": 256}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    words = ["--model", str(folder), "--method", "lora"]
    assert "novel is not an architecture known here" in asked(*words)
    assert "as if it were built like Llama" in as_json(*words)["assumed"]


def test_zero3_is_simulated_by_deepspeed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "find_spec", lambda name: None)
    words = ["--method", "lora", "--gpus", "2", "--sharding", "zero3"]
    with pytest.raises(UserError, match="DeepSpeed itself, which is not installed"):
        asked(*words, "--simulate")
    assert as_json(*words)["how"] == "formula"


def test_several_gpus_are_simulated_in_a_process_of_their_own() -> None:
    words = ["--model", "HuggingFaceTB/SmolLM2-135M", "--method", "lora", "--gpus", "2"]
    words += ["--sharding", "fsdp", "--seq-length", "128"]
    found, formula = as_json(*words, "--simulate"), as_json(*words)
    assert found["how"] == "simulated"
    assert found["allocated_bytes"] == pytest.approx(formula["allocated_bytes"], rel=0.06)


def test_what_was_measured_on_this_gpu_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine(24)
    monkeypatch.setattr(known_memory, "read_machine", lambda: here)
    before = as_json("--method", "qlora")
    gpu = here.gpus[0]
    assert gpu.name
    allocated = before["allocated_bytes"] + GIB // 8
    keep(
        Seen(
            gpu_device(gpu.name, gpu.total),
            installed_stack(),
            Setup(card_for(MODEL).shape, "qlora"),
            allocated,
            allocated + GIB // 4,
            allocated + GIB,
        )
    )
    after = as_json("--method", "qlora")
    assert after["how"] == "measured"
    assert after["allocated_bytes"] == pytest.approx(allocated, rel=1e-6)
    assert after["peak_bytes"] == pytest.approx(allocated + GIB, rel=1e-6)
    assert "measured" in asked("--method", "qlora")
