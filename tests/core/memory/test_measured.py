from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.memory.formula import predict_setup
from core.memory.measured import (
    NOTHING_SEEN,
    Correction,
    Seen,
    correction_for,
    keep,
    kept,
    store,
)
from core.memory.prediction import Prediction
from core.memory.setup import Setup
from core.models.catalogue import card_for
from core.units import GIB, MIB

SETUP = Setup(card_for("Qwen/Qwen3-8B").shape, "qlora", micro_batch=4, seq_length=2048)
DEVICE, STACK = "RTX 4090", "torch 2.13"


def seen(setup: Setup = SETUP, moves: float = 1.0, context: int = 800 * MIB) -> Seen:
    """A step whose activations, loss and workspace took `moves` times what the formula says."""
    parts = predict_setup(setup).parts
    moving = parts.activations + parts.loss + parts.workspace
    allocated = parts.total - parts.runtime + int((moves - 1) * moving)
    reserved = int(1.05 * allocated)
    return Seen(DEVICE, STACK, setup, allocated, reserved, reserved + context)


def corrected(*found: Seen, setup: Setup = SETUP, stack: str = STACK) -> Prediction:
    return correction_for(DEVICE, stack, found).apply(setup, predict_setup(setup))


def test_a_measured_step_corrects_what_moves_and_narrows_the_interval() -> None:
    before = predict_setup(SETUP)
    one = seen(moves=1.2)
    after = corrected(one)
    assert after.how == "measured"
    assert after.allocated == pytest.approx(one.allocated, rel=1e-6)
    assert after.reserved == pytest.approx(one.reserved, rel=1e-6)
    assert after.peak == pytest.approx(one.shown, rel=1e-6)
    assert after.parts.weights == before.parts.weights
    assert after.low <= after.peak <= after.high
    assert after.high - after.low < before.high - before.low


def test_the_correction_holds_for_other_batches_of_the_same_method() -> None:
    longer = replace(SETUP, seq_length=4096)
    assert corrected(seen(moves=1.2), setup=longer).allocated == pytest.approx(
        seen(longer, moves=1.2).allocated, rel=1e-3
    )


def test_of_another_method_only_the_card_is_known() -> None:
    other = replace(SETUP, method="lora")
    plain, found = predict_setup(other), corrected(seen(moves=1.2), setup=other)
    assert found.how == "formula"
    assert found.allocated == plain.allocated
    assert found.peak == found.reserved + 800 * MIB
    assert found.parts.total == found.peak


def test_another_stack_or_device_says_nothing() -> None:
    assert corrected(seen(moves=1.2), stack="torch 3.0") == predict_setup(SETUP)
    assert correction_for("L4", STACK, [seen()]) == Correction()
    assert NOTHING_SEEN.apply(SETUP, predict_setup(SETUP)) == predict_setup(SETUP)


def test_steps_that_differ_widen_it_again() -> None:
    alike = corrected(*(seen(moves=ratio) for ratio in (1.0, 1.01, 1.02)))
    apart = corrected(*(seen(moves=ratio) for ratio in (0.8, 1.0, 1.3)))
    assert apart.high - apart.low > alike.high - alike.low


def test_a_step_of_something_else_is_not_believed() -> None:
    assert not correction_for(DEVICE, STACK, [seen(moves=30)]).moving


def test_steps_are_kept_and_torn_lines_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEDECK_HOME", str(tmp_path))
    assert kept() == []
    keep(seen())
    with store().open("a") as file:
        file.write('{"torn\n{"setup": 3}\n[]\n')
    keep(seen(moves=1.1))
    assert kept() == [seen(), seen(moves=1.1)]
    assert kept()[0].allocated < 24 * GIB
