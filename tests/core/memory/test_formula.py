from __future__ import annotations

from dataclasses import fields, replace

import pytest

from core.errors import UserError
from core.memory.formula import Method, predict
from core.memory.layer import decoder_layer
from core.memory.prediction import EXPLAINED, Parts
from core.memory.setup import Setup, Sharding
from core.memory.stages import stages
from core.memory.trainable import adapted_linears, trainable
from core.methods import METHODS
from core.models.catalogue import ModelShape, card_for, load_catalogue
from core.models.families import layer_parameters
from core.units import GIB

LLAMA_8B = card_for("meta-llama/Llama-3.1-8B").shape


@pytest.mark.parametrize("method", list(METHODS))
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


def test_every_method_on_every_base_that_it_trains_on_has_parts_that_add_up() -> None:
    for method, spec in METHODS.items():
        for bits in spec.bits:
            for optimizer in ("adamw", "adamw-8bit", "paged-adamw-8bit", "sgd"):
                found = predict(LLAMA_8B, method, optimizer=optimizer, bits=bits)
                assert found.allocated + found.paged + found.parts.runtime == found.peak
                assert found.low < found.peak < found.high
                assert bool(found.paged) == (optimizer == "paged-adamw-8bit")


def test_fewer_bits_need_less() -> None:
    peaks = [predict(LLAMA_8B, "lora", bits=bits).peak for bits in (16, 8, 4)]
    assert peaks == sorted(peaks, reverse=True)


def test_pairs_are_two_rows_and_all_their_logits() -> None:
    plain, pairs = predict(LLAMA_8B, "lora"), predict(LLAMA_8B, "lora", objective="dpo")
    assert pairs.parts.loss == 12 * 2 * 1024 * LLAMA_8B.vocabulary
    assert pairs.peak > plain.peak
    assert predict(LLAMA_8B, "lora", objective="kto").parts.loss == pairs.parts.loss / 2
    assert predict(LLAMA_8B, "lora", objective="pretrain") == plain


@pytest.mark.parametrize("sharding", ["fsdp", "zero3"])
def test_parts_of_a_model_shrink_with_the_gpus(sharding: Sharding) -> None:
    alone = predict(LLAMA_8B, "full")
    two, eight = (predict(LLAMA_8B, "full", gpus=n, sharding=sharding) for n in (2, 8))
    assert two.parts.weights == alone.parts.weights // 2
    assert eight.parts.weights == alone.parts.weights // 8
    assert eight.peak < two.peak < alone.peak + alone.parts.optimizer  # ZeRO-3 adds float32 copies
    few, many = (
        predict(LLAMA_8B, "lora", seq_length=8192, gpus=n, sharding=sharding).parts for n in (2, 8)
    )
    assert few.activations == many.activations > 0, "everybody has rows of their own"
    for found in (two, eight):
        assert found.allocated + found.parts.runtime == found.peak


def test_zero3_splits_float32_copies_and_updates_them_in_groups() -> None:
    """Llama-3.1-8B over 4 GPUs: 12 bytes a parameter of copies and states, 2 of gradients; the
    update puts those of at most 1e9 together, in 16 and in 32 bits."""
    own = LLAMA_8B.parameters / 4
    few_tokens = {"gpus": 4, "sharding": "zero3", "seq_length": 32}
    plain, packed, none = (
        predict(LLAMA_8B, "full", optimizer=name, **few_tokens).parts  # type: ignore[arg-type]
        for name in ("adamw", "adamw-8bit", "sgd")
    )
    assert plain.optimizer == pytest.approx(12 * own)
    assert packed.optimizer == pytest.approx((4 + 2 + 8 / 256) * own)
    assert none.optimizer == pytest.approx(4 * own)
    assert plain.gradients == pytest.approx(2 * own)
    assert plain.workspace == pytest.approx(6e9, rel=0.02)
    lora = predict(LLAMA_8B, "lora", gpus=4, sharding="zero3").parts
    head = 2 * LLAMA_8B.vocabulary * LLAMA_8B.hidden
    assert lora.workspace == pytest.approx(2e9 + head, rel=0.06), "what may stay gathered"


def test_a_copy_on_each_gpu_needs_its_buckets_on_top() -> None:
    alone, one_of_two = predict(LLAMA_8B, "full"), predict(LLAMA_8B, "full", gpus=2)
    assert one_of_two.parts.workspace - alone.parts.workspace == 2 * LLAMA_8B.parameters
    assert one_of_two == predict(LLAMA_8B, "full", gpus=2, sharding="ddp")


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(UserError, match="ZeRO-3 cannot split"):
        predict(LLAMA_8B, "qlora", gpus=2, sharding="zero3")
    with pytest.raises(UserError, match="FSDP cannot split"):
        predict(LLAMA_8B, "lora-8bit", gpus=2, sharding="fsdp")


def test_the_stages_of_a_run() -> None:
    run = stages(Setup(LLAMA_8B, "qlora"))
    assert run.merge > 2 * LLAMA_8B.parameters > run.train
    assert run.worst == run.merge
    assert stages(Setup(LLAMA_8B, "full")).merge == 0
    assert stages(Setup(LLAMA_8B, "prefix")).merge == 0


def test_a_kind_of_linear_that_is_never_packed() -> None:
    falcon = card_for("tiiuae/falcon-7b").shape
    found = predict(falcon, "qlora")
    assert found.parts.weights == 2 * falcon.parameters
    assert "does not reach" in found.note


def test_experts_are_not_promised_four_bits() -> None:
    shape = card_for("Qwen/Qwen3-30B-A3B").shape
    quantised, plain = predict(shape, "qlora"), predict(shape, "lora")
    assert quantised.peak > 0.95 * plain.peak
    assert "experts stay 16-bit" in quantised.note


def test_on_a_cpu_it_is_ram_without_a_cuda_context() -> None:
    shape = card_for("HuggingFaceTB/SmolLM2-135M-Instruct").shape
    prediction = predict(shape, "lora", micro_batch=8, seq_length=128, device="cpu")
    assert GIB < prediction.peak < 4 * GIB


FAMILIES = sorted({card.shape.model_type: card.shape for card in load_catalogue()}.items())


@pytest.mark.parametrize("shape", [shape for _, shape in FAMILIES], ids=[k for k, _ in FAMILIES])
def test_trainable_counts_equal_pefts(shape: ModelShape) -> None:
    small = replace(shape, layers=2)
    for targets in ("all-linear", "attention", "attention-all"):
        adapted = adapted_linears(small, "lora", targets)
        assert trainable(small, "lora", 8, adapted) == counted(small, "lora", targets), targets


OF_EACH_KIND = [
    card_for(name).shape
    for name in (
        "meta-llama/Llama-3.2-1B",
        "Qwen/Qwen2.5-0.5B",
        "Qwen/Qwen3-0.6B",
        "google/gemma-3-1b-it",
        "microsoft/Phi-3.5-mini-instruct",
        "tiiuae/falcon-7b",
        "Qwen/Qwen3-30B-A3B",
    )
]


@pytest.mark.parametrize("shape", OF_EACH_KIND, ids=[shape.model_type for shape in OF_EACH_KIND])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "full"])
def test_trainable_counts_equal_pefts_for_every_method(method: Method, shape: ModelShape) -> None:
    layers = 3
    small = replace(
        shape, layers=layers,
        parameters=shape.parameters - (shape.layers - layers) * layer_parameters(shape),
    )  # fmt: skip
    adapted = adapted_linears(small, method, "all-linear")
    assert trainable(small, method, 8, adapted) == counted(small, method, "all-linear")


def counted(shape: ModelShape, method: str, targets: str) -> int:
    """As peft counts them, on a model without weights."""
    import torch

    from core.memory.simulation.model import build

    setup = Setup(shape, method, 8, targets, gradient_checkpointing=False, bits=16)  # type: ignore[arg-type]
    if method in ("qlora", "lora-8bit"):
        setup = replace(setup, method="lora")  # packed weights count otherwise, adapters do not
    with torch.device("meta"):
        model = build(setup)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


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
    """Within 1 % of what a real forward pass saves, for every architecture."""
    for method, targets in (("lora", "all-linear"), ("qlora", "attention"), ("full", "all-linear")):
        check_kept(tiny(shape), method, targets)


@pytest.mark.parametrize(
    "method", ["dora", "vera", "adalora", "ia3", "oft", "loha", "lokr", "last-layers"]
)
def test_a_layer_keeps_what_autograd_keeps_with_every_adapter(method: str) -> None:
    check_kept(tiny(LLAMA_8B), method, "all-linear")


def check_kept(shape: ModelShape, method: str, targets: str) -> None:
    from tests.core.memory.saved_tensors import ROWS, saved_by_a_layer

    length, base = 64, 4 if method == "qlora" else 16
    adapted = adapted_linears(shape, method, targets)  # type: ignore[arg-type]
    layer = decoder_layer(shape, method, base, 8, adapted)  # type: ignore[arg-type]
    real = saved_by_a_layer(shape, method, 8, targets, length)
    assert layer.saved(ROWS * length, length) == pytest.approx(real, rel=0.01), method


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_dropout_is_priced(method: str) -> None:
    from tests.core.memory.saved_tensors import ROWS, saved_by_a_layer

    small, tokens = tiny(LLAMA_8B), ROWS * 64
    adapted = adapted_linears(small, method, "all-linear")  # type: ignore[arg-type]
    base = 16 if method == "lora" else 4
    layer = decoder_layer(small, method, base, 8, adapted, dropout=True)  # type: ignore[arg-type]
    real = saved_by_a_layer(small, method, 8, "all-linear", 64, dropout=0.1)
    size = 4 if method == "lora" else 2  # a CPU's mask is of the input's type, a GPU's one byte
    real -= tokens * (size - 1) * sum(linear.inputs for linear in adapted)
    assert layer.saved(tokens, 64) == pytest.approx(real, rel=0.01)
