"""The simulation against what is known for certain."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from core.errors import UserError
from core.memory import simulated
from core.memory.formula import predict_setup
from core.memory.setup import Setup, from_json, to_json
from core.memory.simulation.worker import simulate
from core.models.catalogue import card_for

SMOL = card_for("HuggingFaceTB/SmolLM2-135M").shape
QWEN = card_for("Qwen/Qwen2.5-3B").shape
TENSORS = 512 * 3000  # what rounding may add
LAYER, TABLE = 3_540_096, 49_152 * 576  # parameters of SmolLM2-135M
SHALLOW = replace(
    SMOL, layers=4, parameters=4 * LAYER + TABLE + 576, in_linear=4 * (LAYER - 2 * 576)
)


def _trained(rank: int, layers: int, widths: list[tuple[int, int]]) -> int:
    return layers * sum(rank * (a + b) for a, b in widths)


def test_the_static_part_is_the_exact_sum_of_the_tensors() -> None:
    """SmolLM2-135M: 134,515,008 parameters; LoRA of rank 16 on its seven linears."""
    widths = [(576, 576), (576, 192), (576, 192), (576, 576)] + [(576, 1536)] * 2 + [(1536, 576)]
    adapter = 4 * _trained(16, 30, widths)
    parts = simulate(Setup(SMOL, "lora", seq_length=256))["parts"]
    assert 0 <= parts["weights"] - 2 * 134_515_008 < TENSORS
    assert 0 <= parts["adapter"] - adapter < TENSORS
    assert 0 <= parts["optimizer"] - 2 * adapter < TENSORS


def test_a_mid_sized_model_in_four_bits_and_in_full() -> None:
    """Qwen2.5-3B: 2,774,532,096 parameters in linears, 311,406,592 beside them."""
    packed = simulate(Setup(QWEN, "qlora", seq_length=2048))
    nf4 = 2_774_532_096 * (0.5 + 1 / 64 + 4 / 16384) + 2 * 311_406_592
    assert packed["parts"]["weights"] == pytest.approx(nf4, abs=TENSORS)
    full = simulate(Setup(QWEN, "full", seq_length=2048, gradient_checkpointing=True))
    weights = 2 * 3_085_938_688
    for part, share in (("weights", 1), ("gradients", 1), ("optimizer", 2)):
        assert full["parts"][part] == pytest.approx(share * weights, abs=TENSORS + 2 * 311e6)
    for found in (packed, full):
        assert sum(found["parts"].values()) == found["allocated"]
        assert found["allocated"] <= found["reserved"] < 1.2 * found["allocated"]


def test_checkpointing_saves_what_the_layers_keep() -> None:
    def activations(length: int, *, checkpointing: bool) -> int:
        setup = Setup(SHALLOW, "lora", seq_length=length, gradient_checkpointing=checkpointing)
        found = simulate(setup)["parts"]
        assert isinstance(found["activations"], int)
        return found["activations"]

    once, twice = activations(512, checkpointing=False), activations(1024, checkpointing=False)
    assert twice == pytest.approx(2 * once, rel=0.02)
    assert activations(1024, checkpointing=True) < 0.35 * twice  # one layer of the four


def test_accumulated_gradients_are_there_during_the_next_micro_batch() -> None:
    plain = Setup(SHALLOW, "full", seq_length=256, micro_batch=4, gradient_checkpointing=False)
    once, more = simulate(plain), simulate(replace(plain, accumulates=True))
    assert more["allocated"] - once["allocated"] > 0.9 * 2 * SHALLOW.parameters


def test_eight_bit_states_and_the_embedding_s_in_32() -> None:
    setup = Setup(SHALLOW, "full", seq_length=256, optimizer="adamw-8bit")
    eight_bit = (SHALLOW.parameters - TABLE) * (2 + 8 / 256) + 8 * TABLE
    assert simulate(setup)["parts"]["optimizer"] == pytest.approx(eight_bit, rel=0.01)
    assert "optimizer" not in simulate(replace(setup, optimizer="sgd"))["parts"]


def test_a_setup_survives_the_wire() -> None:
    setup = Setup(SMOL, "lora", targets=("q_proj", "v_proj"), dropout=0.1)
    assert from_json(to_json(setup)) == setup


def test_the_child_answers_and_the_answer_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    setup = Setup(SMOL, "lora", seq_length=512)
    found = simulated.simulate(setup)
    assert found.how == "simulated"
    assert found.peak == found.parts.total == pytest.approx(predict_setup(setup).peak, rel=0.2)
    assert found.allocated < found.reserved < found.peak < found.high
    monkeypatch.setattr(simulated, "Child", None)  # kept: nothing is run again
    assert simulated.simulate(setup) == found
    monkeypatch.undo()
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    (kept,) = (tmp_path / "simulations").iterdir()
    kept.write_text("{torn")
    with pytest.raises(UserError, match="more than 0 s"):
        simulated.Simulation(setup, timeout=0.01).run()


def test_it_can_be_cancelled_and_says_what_it_cannot_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    setup = Setup(card_for("meta-llama/Llama-3.1-70B").shape, "lora")
    simulation = simulated.Simulation(setup)
    threading.Timer(1.5, simulation.cancel).start()
    with pytest.raises(UserError, match="cancelled"):
        simulation.run()
    broken = replace(SMOL, model_type="no-such-architecture")
    with pytest.raises(UserError, match=r"cannot be simulated: .*no-such-architecture") as raised:
        simulated.simulate(Setup(broken, "lora"))
    assert len(str(raised.value)) < 400, "transformers names all that it knows"
