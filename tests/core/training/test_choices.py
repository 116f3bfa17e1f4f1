"""What is chosen for a run, when, and that the choices change nothing but the speed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import bitsandbytes
import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
    Qwen3Config,
    RwkvConfig,
)

from core.data.encoding import IGNORED
from core.data.prepared import load_prepared
from core.data.training_rows import TokenRow
from core.recipe import Recipe, load_recipe, parse_recipe
from core.runs.directory import RunDirectory
from core.runs.events import EventReader
from core.training import choices, kernels
from core.training import settle as settling
from core.training.batches import collate
from core.training.choices import Machine
from core.training.loss import labelled_loss_sum, labelled_tokens
from core.training.packing import keeps_rows_apart
from core.training.preflight import expected_memory
from core.training.settle import compile_layers
from core.training.watch import Watch

NewRun = Callable[..., RunDirectory]
TrainHere = Callable[[RunDirectory], int]
CPU = Machine(on_gpu=False)
AMPERE = Machine(on_gpu=True, capability=(8, 6), flash=frozenset({2}), free=10)
HOPPER = Machine(on_gpu=True, capability=(9, 0), flash=frozenset({2, 3}), free=10)
TURING = Machine(on_gpu=True, capability=(7, 5), flash=frozenset({2}), free=10)
SHAPE: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": 1,
    "bos_token_id": 1,
}  # fmt: skip
ATTENTIVE = {
    "llama": LlamaConfig(**SHAPE),
    "mistral, sliding": MistralConfig(**SHAPE, sliding_window=6),
    "qwen2": Qwen2Config(**SHAPE),
    "qwen3": Qwen3Config(**SHAPE, head_dim=8),
    "gemma2": Gemma2Config(**SHAPE, head_dim=8, sliding_window=6),
    "phi3": Phi3Config(**SHAPE),
    "gpt-neox": GPTNeoXConfig(**SHAPE),
}


def recipe(method: str = "lora", objective: str = "sft", **training: Any) -> Recipe:
    tree = {"model": "m", "data": "d", "method": method, "objective": objective}
    return parse_recipe({**tree, "training": training}, "test")


def rows() -> list[TokenRow]:
    """Three rows of different length, the beginning of each not trained."""
    torch.manual_seed(3)
    found = []
    for number, (length, prompt) in enumerate([(17, 9), (12, 5), (8, 3)]):
        ids = torch.randint(2, 97, (length,)).tolist()
        found.append(TokenRow(number, ids, [IGNORED] * prompt + ids[prompt:]))
    return found


def make(name: str, attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    config = ATTENTIVE[name]
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()


def loss(model: Any, *, packed: bool) -> torch.Tensor:
    batch = collate(rows(), pad=0, packed=packed)
    summed = labelled_loss_sum(
        model, batch["input_ids"], batch["labels"], batch.get("position_ids")
    )
    return summed / labelled_tokens(batch["labels"])


@pytest.mark.parametrize(
    ("name", "attention"),
    [(name, "eager") for name in ATTENTIVE]
    + [(name, "sdpa") for name in ATTENTIVE if name != "gemma2"],  # which has no sdpa
)
def test_packed_rows_have_the_loss_of_rows_alone(name: str, attention: str) -> None:
    model = make(name, attention)
    packed, padded = loss(model, packed=True), loss(model, packed=False)
    assert float(packed.detach()) == pytest.approx(float(padded.detach()), abs=1e-3)
    packed.backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss(model, packed=False).backward()
    for key, value in model.named_parameters():
        if value.grad is not None:
            torch.testing.assert_close(gradients[key], value.grad, atol=1e-3, rtol=1e-3)
    assert keeps_rows_apart(model, rows())


def test_a_model_that_carries_a_state_is_found_out() -> None:
    torch.manual_seed(0)
    config = RwkvConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32
    )
    assert not keeps_rows_apart(AutoModelForCausalLM.from_config(config), rows())


def test_attention_that_looks_across_rows_is_found_out() -> None:
    """The older way: positions start again, but nothing tells attention where."""

    class Leaking(nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.inner = model
            self.dtype, self.device = model.dtype, model.device

        def get_output_embeddings(self) -> Any:
            return self.inner.get_output_embeddings()

        def forward(self, input_ids: Any, position_ids: Any = None, **rest: Any) -> Any:
            everything = torch.ones(1, 1, *[input_ids.shape[1]] * 2, dtype=torch.bool).tril()
            rest["attention_mask"] = everything.expand(len(input_ids), -1, -1, -1)
            return self.inner(input_ids=input_ids, position_ids=position_ids, **rest)

    assert not keeps_rows_apart(Leaking(make("llama")), rows())


def test_attention_follows_what_is_installed() -> None:
    assert choices.attention(recipe(), CPU)[0] == "sdpa"
    assert choices.attention(recipe(), AMPERE)[0] == "flash_attention_2"
    assert choices.attention(recipe(), HOPPER)[0] == "flash_attention_3"
    kernel, why = choices.attention(recipe(attention="flash"), TURING)
    assert (kernel, why) == ("sdpa", "flash attention needs an Ampere GPU or a newer one")
    assert choices.attention(recipe(attention="eager"), HOPPER)[0] == "eager"
    assert choices.attention(recipe(attention="flex"), CPU)[0] == "sdpa"
    assert choices.attention(recipe(attention="flex"), AMPERE)[0] == "flex_attention"


def test_rows_are_packed_where_it_pays_and_is_right() -> None:
    def packs(
        given: Recipe, kernel: choices.Attention = "flash_attention_2", *, apart: bool = True
    ) -> bool:
        return choices.packing(given, kernel, lambda: apart)[0]

    assert packs(recipe())
    assert packs(recipe(objective="pretrain"))
    assert not packs(recipe(), "sdpa")
    assert packs(recipe(packing=True), "sdpa")
    assert not packs(recipe(packing=True), apart=False)
    assert not packs(recipe(packing=False))
    assert not packs(recipe(objective="dpo", packing=True))
    assert not packs(recipe(method="prompt", packing=True))


def test_the_largest_micro_batch_that_fits() -> None:
    assert choices.micro_batch(recipe(batch=24), lambda rows: rows <= 8)[0] == 8
    assert choices.micro_batch(recipe(batch=7), lambda rows: rows <= 5)[0] == 1
    assert choices.micro_batch(recipe(micro_batch=3), lambda rows: False)[0] == 3


def test_averages_in_8_bits_where_those_in_32_do_not_fit() -> None:
    def chosen(given: Recipe, machine: Machine, *, fit: bool, begun: str | None = None) -> str:
        return choices.optimizer(given, machine, lambda: fit, begun)[0]

    assert chosen(recipe(), AMPERE, fit=True) == "adamw"
    assert chosen(recipe(), AMPERE, fit=False) == "paged-adamw-8bit"
    assert chosen(recipe(), CPU, fit=False) == "adamw"
    assert chosen(recipe(), replace(AMPERE, pages=False), fit=False) == "adamw"
    assert chosen(recipe(), AMPERE, fit=True, begun="paged-adamw-8bit") == "paged-adamw-8bit"
    assert chosen(recipe(), AMPERE, fit=False, begun="adamw") == "adamw"
    for name in ("adamw", "adamw-8bit", "paged-adamw-8bit", "sgd"):
        for fit in (True, False):
            assert chosen(recipe(optimizer=name), AMPERE, fit=fit, begun="adamw") == name


def test_compiling_and_tf32_wait_for_what_makes_them_pay() -> None:
    assert choices.compiles(recipe(), AMPERE, 5000)[0]
    assert not choices.compiles(recipe(), AMPERE, 100)[0]
    assert not choices.compiles(recipe("qlora"), AMPERE, 5000)[0]
    assert not choices.compiles(recipe(), CPU, 5000)[0]
    assert choices.compiles(recipe(compile=True), CPU, 1)[0]
    assert choices.tf32(recipe(), AMPERE)[0]
    assert not choices.tf32(recipe(tf32=False), AMPERE)[0]
    assert not choices.tf32(recipe(tf32=True), TURING)[0]


class FalseLiger(ModuleType):
    """Stands in for Liger, which needs a GPU: it puts another norm into a model, whose result is
    the model's own times `factor`. It proves how a change is judged, and nothing about Liger."""

    def __init__(self, factor: float) -> None:
        super().__init__("liger_kernel.transformers")
        self.factor = factor

    def _apply_liger_kernel_to_instance(self, model: Any, **options: bool) -> None:
        assert options == {"cross_entropy": False, "fused_linear_cross_entropy": False}
        module = sys.modules[type(model).__module__]
        original = module.LlamaRMSNorm

        class Norm(original):  # type: ignore[misc,valid-type]
            pass

        module.LlamaRMSNorm = Norm  # type: ignore[attr-defined]
        model.model.norm.weight.mul_(self.factor)


@pytest.mark.parametrize(("factor", "value"), [(1.0, "liger"), (3.0, "none")])
def test_kernels_are_kept_if_the_loss_agrees(
    monkeypatch: pytest.MonkeyPatch, factor: float, value: str
) -> None:
    monkeypatch.setattr(kernels, "liger_lacks", lambda recipe, machine: None)
    monkeypatch.setitem(sys.modules, "liger_kernel", ModuleType("liger_kernel"))
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", FalseLiger(factor))
    module = sys.modules[type(make("llama")).__module__]
    before = module.LlamaRMSNorm
    monkeypatch.setattr(module, "LlamaRMSNorm", before)  # put back at the end
    loaded: list[Any] = []

    def load() -> Any:
        loaded.append(make("llama"))
        return loaded[-1]

    model, choice = kernels.with_kernels(
        recipe(), AMPERE, load, lambda each: float(loss(each, packed=False).detach())
    )
    assert choice.value == value
    assert len(loaded) == (1 if value == "liger" else 2)
    assert model is loaded[-1]
    assert (module.LlamaRMSNorm is before) == (value == "none")
    expected = float(loss(make("llama"), packed=False).detach())
    assert float(loss(model, packed=False).detach()) == pytest.approx(expected, abs=1e-5)


def test_what_is_not_installed_is_said() -> None:
    _, choice = kernels.with_kernels(recipe(), CPU, lambda: make("llama"), lambda model: 0.0)
    assert choice.value == "none"
    assert "liger" in choice.why.lower()
    assert kernels.liger_lacks(recipe(kernels="none"), AMPERE) == "asked for"


def test_the_choices_are_told(new_run: NewRun, train_here: TrainHere, capfd: Any) -> None:
    run = new_run(
        training={"batch": 8, "max_steps": 1, "packing": True, "gradient_checkpointing": "auto"}
    )
    assert train_here(run) == 0
    [event] = [each for each in EventReader(run.events).read() if each["kind"] == "choices"]
    found = {choice["name"]: choice["value"] for choice in event["choices"]}
    assert found["micro_batch"] == "8 × 1"
    assert found["packing"] == "on"
    assert found["attention"] == "sdpa"
    assert {"precision", "optimizer", "kernels", "compile", "tf32"} <= set(found)
    assert "packing: on (no padding" in capfd.readouterr().out
    effective = load_recipe(run.path / "effective.yaml")
    assert effective.training.micro_batch == 8
    assert effective.training.attention == "sdpa"
    assert effective.training.gradient_checkpointing is False
    assert load_recipe(run.recipe).training.batch == 8


class Card:
    """A GPU that says how much memory is free, for a training that runs on the CPU; and what the
    training's optimiser is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 0
        self.optimizers: list[Any] = []
        monkeypatch.setattr(settling, "this_machine", lambda dtype: replace(TURING, free=self.free))
        monkeypatch.setattr(Watch, "on_step_begin", self._look)

    def _look(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.optimizers.append(given["optimizer"].optimizer)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


def needed(run: RunDirectory, optimizer: str) -> int:
    """What a training of this run is predicted to need at most, without activations twice."""
    wanted = load_recipe(run.recipe)
    wanted.training = wanted.training.model_copy(update={"optimizer": optimizer})
    expected = expected_memory(
        wanted, Path(wanted.model.id), load_prepared(run.data), gradient_checkpointing=False
    )
    assert expected is not None
    return expected.high


def test_the_optimiser_is_chosen_by_memory_and_kept_by_a_resumed_run(
    new_run: NewRun, train_here: TrainHere, card: Card
) -> None:
    """bitsandbytes trains on the CPU, too, where it does without pages."""
    sections = {"method": "full", "training": {"max_steps": 2, "gradient_checkpointing": False}}
    card.free = 10**12
    roomy = new_run(**sections)
    assert train_here(roomy) == 0
    assert chosen_optimizer(roomy) == ("adamw", "fused: one pass over all weights")
    assert isinstance(card.optimizers[-1], torch.optim.AdamW)
    assert card.optimizers[-1].defaults["fused"]

    card.free = (needed(roomy, "adamw") + needed(roomy, "paged-adamw-8bit")) // 2
    run = new_run(**sections)
    (run.control / "stop").touch()
    assert train_here(run) == 0
    why = "memory would not suffice for averages in 32 bits"
    assert chosen_optimizer(run) == ("paged-adamw-8bit", why)
    found = card.optimizers[-1]
    assert isinstance(found, bitsandbytes.optim.AdamW)
    assert (found.is_paged, found.args.optim_bits) == (True, 8)
    assert load_recipe(run.recipe).training.optimizer == "auto"

    card.free = 10**12
    (run.control / "stop").unlink()
    assert train_here(run) == 0
    assert chosen_optimizer(run) == ("paged-adamw-8bit", "as the run began")
    assert isinstance(card.optimizers[-1], bitsandbytes.optim.AdamW)


def test_an_optimiser_that_is_named_is_taken_whatever_fits(
    new_run: NewRun, train_here: TrainHere, card: Card
) -> None:
    run = new_run(method="full", training={"max_steps": 1, "optimizer": "adamw"})
    assert train_here(run) == 0
    assert chosen_optimizer(run)[0] == "adamw"
    assert isinstance(card.optimizers[-1], torch.optim.AdamW)


def chosen_optimizer(run: RunDirectory) -> tuple[str, str]:
    """What was told last, which is what the effective recipe says."""
    told = [each for each in EventReader(run.events).read() if each["kind"] == "choices"][-1]
    [choice] = [each for each in told["choices"] if each["name"] == "optimizer"]
    assert load_recipe(run.path / "effective.yaml").training.optimizer == choice["value"]
    return choice["value"], choice["why"]


def test_packing_changes_the_curve_by_no_more_than_rounding(
    new_run: NewRun, train_here: TrainHere
) -> None:
    curves = []
    for packing in (True, False):
        run = new_run(training={"max_steps": 4, "packing": packing, "learning_rate": 1e-3})
        assert train_here(run) == 0
        logs = [each for each in EventReader(run.events).read() if each["kind"] == "log"]
        curves.append([(each["loss"], each["tokens"]) for each in logs])
    for packed, padded in zip(*curves, strict=True):
        assert packed[0] == pytest.approx(padded[0], rel=0.01)
        assert packed[1] == padded[1]


def test_compiled_layers_compute_the_same_under_the_same_names() -> None:
    """With the backend that traces and does not generate code, which takes minutes on a CPU."""
    model = make("llama")
    names, expected = list(model.state_dict()), float(loss(model, packed=False).detach())
    compile_layers(model, backend="eager")
    assert float(loss(model, packed=False).detach()) == pytest.approx(expected, abs=1e-5)
    assert list(model.state_dict()) == names


def test_both_are_written_as_they_were_read(tmp_path: Path) -> None:
    given = recipe(objective="kto", batch=8, packing=True, attention="flash", kernels="liger")
    (tmp_path / "recipe.yaml").write_text(given.to_yaml())
    assert load_recipe(tmp_path / "recipe.yaml").training == given.training
