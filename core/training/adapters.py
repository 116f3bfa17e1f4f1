"""What is trained of a model: peft's configuration for each method."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from core.errors import UserError
from core.recipe import MethodSection
from core.training.adalora import freeze_ranks
from core.training.loading import text_part
from core.training.placement import (
    decoder_layers,
    expert_parameters,
    linear_paths,
    scaled_modules,
    target_modules,
)

LOW_RANK = ("lora", "qlora", "lora-8bit", "rslora", "dora", "lora+")
OFT_BLOCK = 32  # peft's default; a layer whose width it does not divide gets a smaller one


def with_adapter(model: Any, method: MethodSection, steps: int = 0) -> Any:
    """The model with a fresh adapter; where its own weights are trained, the model itself.

    `steps`: optimiser steps of the whole run, from which AdaLoRA plans when to move its rank.
    """
    if method.name == "full":
        return model
    if method.name == "last-layers":
        return freeze_all_but_last(model, method.layers)
    from peft import get_peft_model

    adapted = get_peft_model(model, peft_config(model, method, steps))
    if method.name == "adalora":
        freeze_ranks(adapted)
    keep_dtype(adapted)
    return adapted


def check_method(base: Path, method: MethodSection) -> str | None:
    """UserError when this model has no place for the method; nothing of its weights is read.

    Returns what should be said of a model whose experts stay as they are.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        config = text_part(base).get("config") or AutoConfig.from_pretrained(base)
        model = AutoModelForCausalLM.from_config(config)
    experts = expert_parameters(model)
    share = experts / sum(weight.numel() for weight in model.parameters())
    if method.name == "last-layers":
        _check_layers(model, method.layers)
    elif method.spec.kind == "adapter":
        _check_rank(model, method)
        _try_on(model, method)
    elif method.name == "prefix" and getattr(model.config, "multi_query", False):
        raise UserError(
            "method: peft's prefix tuning does not know heads that share their keys and values.",
            "Choose prompt or p-tuning for this model.",
        )
    if experts == 0 or method.spec.kind != "adapter":
        return None
    bits = "" if method.base_bits == 16 else f", in 16 bits and not in {method.base_bits}"
    return (
        f"The experts ({share:.0%} of the weights) are no linear layers and stay as they are{bits}."
    )


def _try_on(model: nn.Module, method: MethodSection) -> None:
    """UserError with peft's own reason where it has no such adapter for these layers."""
    try:
        with torch.random.fork_rng(devices=[]):  # the real one begins as if this had not been
            with_adapter(model, method)
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"method: {method.spec.title} does not go with this model: {reason}",
            "Choose another method.name; lora goes with most.",
        ) from error


def _check_layers(model: nn.Module, wanted: int) -> None:
    there = len(decoder_layers(model))
    if wanted > there:
        raise UserError(
            f"method.layers: this model has {there} layers, not {wanted}.",
            "Lower it, or use full to train all of them.",
        )


def _check_rank(model: nn.Module, method: MethodSection) -> None:
    """PiSSA takes as many components as the rank says, and the smallest layer must have them."""
    if method.name != "pissa":
        return
    targets = target_modules(model, method.target_modules)
    adapted = [
        min(model.get_submodule(path).weight.shape)
        for path in linear_paths(model)
        if targets == "all-linear" or path.endswith(tuple(targets))
    ]
    if method.rank > min(adapted):
        raise UserError(
            f"method.rank: PiSSA can begin with at most {min(adapted)} components here, not "
            f"{method.rank}; its smallest layer has no more.",
            f"Set it to {min(adapted)} or less.",
        )


def peft_config(model: nn.Module, method: MethodSection, steps: int = 0) -> Any:
    """The configuration that peft wants for this method on this model."""
    import peft

    placed: dict[str, Any] = {"task_type": "CAUSAL_LM"}
    if method.spec.kind == "soft-prompt":
        kinds = {
            "prefix": peft.PrefixTuningConfig,
            "prompt": peft.PromptTuningConfig,
            "p-tuning": peft.PromptEncoderConfig,
        }
        return kinds[method.name](num_virtual_tokens=method.virtual_tokens, **placed)
    if method.name == "ia3":
        keys, ends = scaled_modules(model)
        return peft.IA3Config(target_modules=keys + ends, feedforward_modules=ends, **placed)
    placed["target_modules"] = target_modules(model, method.target_modules)
    return _placed_config(method, placed, steps)


def _placed_config(method: MethodSection, placed: dict[str, Any], steps: int) -> Any:
    import peft

    rank, alpha, dropout = method.rank, method.alpha, method.dropout
    if method.name == "vera":
        return peft.VeraConfig(r=rank, vera_dropout=dropout, **placed)
    if method.name == "oft":
        return peft.OFTConfig(oft_block_size=OFT_BLOCK, module_dropout=dropout, **placed)
    if method.name in ("loha", "lokr"):
        kind = peft.LoHaConfig if method.name == "loha" else peft.LoKrConfig
        return kind(r=rank, alpha=alpha, rank_dropout=dropout, **placed)
    if method.name == "adalora":
        return _adalora_config(method, placed, steps)
    return peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_rslora=method.name == "rslora",
        use_dora=method.name == "dora",
        **placed,
    )


def _adalora_config(method: MethodSection, placed: dict[str, Any], steps: int) -> Any:
    """Half as much rank again as in the end, given up in the middle of the run."""
    import peft

    return peft.AdaLoraConfig(
        init_r=max(method.rank + method.rank // 2, method.rank + 1),
        target_r=method.rank,
        lora_alpha=method.alpha,
        lora_dropout=method.dropout,
        orth_reg_weight=0.0,  # ours to add: see core.training.adalora
        total_step=max(steps, 3),
        tinit=steps // 10,
        tfinal=steps // 2,
        **placed,
    )


def freeze_all_but_last(model: nn.Module, count: int) -> nn.Module:
    """Only the last `count` decoder layers learn."""
    layers = decoder_layers(model)
    model.requires_grad_(False)
    for layer in layers[-count:]:
        layer.requires_grad_(True)
    return model


@contextmanager
def in_base_precision(model: nn.Module, method: MethodSection) -> Iterator[None]:
    """On a quantised base TRL puts what is trained into bf16, as QLoRA's authors did with LoRA.

    Elsewhere that would hurt: beside a scale of 1, what a step adds is less than bf16 can hold.
    So what is no LoRA matrix comes out as it went in.
    """
    trained = {} if method.name in LOW_RANK else dict(model.named_parameters())
    before = {name: weight.data for name, weight in trained.items() if weight.requires_grad}
    yield
    for name, data in before.items():
        trained[name].data = data


def keep_dtype(model: nn.Module) -> None:
    """On a quantised base peft's IA3 layers answer in 32 bits, which attention refuses."""
    from peft.tuners.ia3 import IA3Layer

    for module in model.modules():
        if isinstance(module, IA3Layer):
            module.register_forward_hook(_as_the_input)


def _as_the_input(module: nn.Module, arguments: tuple[Any, ...], output: torch.Tensor) -> Any:
    return output.to(arguments[0].dtype)
