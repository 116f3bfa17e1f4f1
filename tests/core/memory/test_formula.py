from __future__ import annotations

import time
from dataclasses import fields, replace

import pytest

from core.memory.activations import layer_cost
from core.memory.formula import Method, predict, trainable
from core.memory.prediction import EXPLAINED, Parts
from core.models.as_config import config_arguments
from core.models.catalogue import ModelShape, card_for, load_catalogue
from core.models.families import targeted
from core.units import GIB

LLAMA_8B = card_for("meta-llama/Llama-3.1-8B").shape
METHODS: tuple[Method, ...] = ("lora", "qlora", "full")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("checkpointing", [True, False])
def test_the_parts_add_up_and_are_explained(method: Method, checkpointing: bool) -> None:
    prediction = predict(LLAMA_8B, method, gradient_checkpointing=checkpointing)
    parts = {field.name: getattr(prediction.parts, field.name) for field in fields(Parts)}
    assert sum(parts.values()) == prediction.peak
    assert all(value >= 0 for value in parts.values())
    assert set(parts) == set(EXPLAINED)
    assert prediction.low < prediction.peak < prediction.high
    assert prediction.allocated <= prediction.reserved <= prediction.peak


def test_the_weights_are_what_they_weigh() -> None:
    assert predict(LLAMA_8B, "lora").parts.weights == 2 * 8_030_261_248
    four_bit = predict(LLAMA_8B, "qlora").parts.weights
    assert four_bit == pytest.approx(6_979_321_856 * 0.51587 + 2 * 1_050_939_392, rel=1e-4)


def test_full_fine_tuning_of_8b_needs_three_times_lora() -> None:
    assert 58 * GIB < predict(LLAMA_8B, "full").peak < 68 * GIB
    assert 16 * GIB < predict(LLAMA_8B, "lora").peak < 20 * GIB
    assert 6 * GIB < predict(LLAMA_8B, "qlora").peak < 9 * GIB


def test_every_knob_turns_the_right_way() -> None:
    base = predict(LLAMA_8B, "lora", micro_batch=4, seq_length=2048)
    assert predict(LLAMA_8B, "lora", micro_batch=2, seq_length=2048).peak < base.peak
    assert predict(LLAMA_8B, "lora", micro_batch=4, seq_length=1024).peak < base.peak
    assert predict(LLAMA_8B, "lora", 64, micro_batch=4, seq_length=2048).peak > base.peak
    unchecked = predict(
        LLAMA_8B, "lora", micro_batch=4, seq_length=2048, gradient_checkpointing=False
    )
    assert unchecked.peak > base.peak
    fewer = predict(LLAMA_8B, "lora", 16, "attention", 4, 2048)
    assert fewer.peak < base.peak
    eight_bit = predict(LLAMA_8B, "full", optimizer="adamw-8bit")
    assert eight_bit.peak < predict(LLAMA_8B, "full").peak
    assert predict(LLAMA_8B, "full", optimizer="sgd").parts.optimizer == 0
    accumulating = predict(LLAMA_8B, "full", accumulates=True)
    assert accumulating.peak >= predict(LLAMA_8B, "full").peak


def test_experts_are_not_promised_four_bits() -> None:
    shape = card_for("Qwen/Qwen3-30B-A3B").shape
    quantised, plain = predict(shape, "qlora"), predict(shape, "lora")
    assert quantised.peak > 0.95 * plain.peak
    assert "experts stay 16-bit" in quantised.note


def test_on_a_cpu_it_is_ram_without_a_cuda_context() -> None:
    shape = card_for("HuggingFaceTB/SmolLM2-135M-Instruct").shape
    prediction = predict(shape, "lora", micro_batch=8, seq_length=128, device="cpu")
    assert GIB < prediction.peak < 4 * GIB


def test_a_prediction_takes_less_than_a_millisecond() -> None:
    shapes = [card.shape for card in load_catalogue()]
    start = time.perf_counter()
    for shape in shapes:
        predict(shape, "lora")
    assert (time.perf_counter() - start) / len(shapes) < 1e-3


FAMILIES = sorted({card.shape.model_type: card.shape for card in load_catalogue()}.items())


@pytest.mark.parametrize("shape", [shape for _, shape in FAMILIES], ids=[k for k, _ in FAMILIES])
@pytest.mark.parametrize("targets", ["all-linear", "attention", "attention-all"])
def test_trainable_counts_equal_pefts(shape: ModelShape, targets: str) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    small = replace(shape, layers=2)
    config = AutoConfig.for_model(shape.model_type, **config_arguments(small))
    adapted = targeted(small, targets)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        names = [linear.name for linear in adapted]
        adapter = get_peft_model(model, LoraConfig(r=8, target_modules=names))
    counted = sum(p.numel() for p in adapter.parameters() if p.requires_grad)
    assert trainable(small, "lora", 8, adapted) == counted


def tiny(shape: ModelShape) -> ModelShape:
    """The same architecture small enough to run, with widths that differ from one another."""
    kind, plain = shape.model_type, shape.model_type in ("bloom", "falcon", "phi")
    hidden = 256 if plain else 320
    wide = {"falcon": 4 * hidden, "bloom": 4 * hidden}.get(kind, 704)
    kv_heads = 8 if shape.kv_heads == shape.heads else 1 if shape.kv_heads == 1 else 2
    active = 1 if kind == "llama4_text" else 2
    return replace(
        shape,
        hidden=hidden,
        intermediate=wide,
        heads=8,
        kv_heads=kv_heads,
        head_dim=32,
        vocabulary=512,
        context=512,
        experts=4 if shape.experts else None,
        active_experts=active if shape.experts else None,
        expert_width=(192 if kind == "qwen3_moe" else 704) if shape.experts else None,
    )


@pytest.mark.parametrize("shape", [shape for _, shape in FAMILIES], ids=[k for k, _ in FAMILIES])
def test_a_layer_keeps_what_autograd_keeps(shape: ModelShape) -> None:
    """Within 1 % of what a real forward pass saves, for every architecture and method."""
    from tests.core.memory.saved_tensors import saved_per_token

    small, length = tiny(shape), 64
    for method, targets in (("lora", "all-linear"), ("qlora", "attention"), ("full", "")):
        adapted = targeted(small, targets) if targets else ()
        cost = layer_cost(small, method, 8, adapted)
        real = saved_per_token(small, method, 8, targets, length)
        assert cost.saved + cost.squared * length == pytest.approx(real, rel=0.01), method


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_dropout_is_priced(method: str) -> None:
    from tests.core.memory.saved_tensors import saved_per_token

    small = tiny(LLAMA_8B)
    adapted = targeted(small, "all-linear")
    cost = layer_cost(small, method, 8, adapted, dropout=True)
    real = saved_per_token(small, method, 8, "all-linear", 64, dropout=0.1)
    size = 4 if method == "lora" else 2  # a CPU's mask is of the input's type, a GPU's one byte
    real -= (size - 1) * sum(linear.inputs for linear in adapted)
    assert cost.saved == pytest.approx(real, rel=0.01)
