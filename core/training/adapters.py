"""What is trained of a model: peft's configuration for each method, and the layers it adapts."""

from __future__ import annotations

from typing import Any

from torch import nn

from core.recipe import MethodSection

ATTENTION = ("q_proj", "v_proj")
ATTENTION_ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "dense")
# Architectures that fuse or rename their projections.
FUSED = ("query_key_value", "qkv_proj", "c_attn", "Wqkv", "in_proj")
FUSED_OUTPUT = ("dense", "o_proj", "out_proj", "c_proj")
FEED_FORWARD = ("down_proj", "dense_4h_to_h", "fc2", "c_proj")
KEYS_AND_VALUES = ("k_proj", "v_proj", *FUSED)
ROUTERS = ("router", "gate")
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
        _freeze_rank_numbers(adapted)
    return adapted


def _freeze_rank_numbers(model: nn.Module) -> None:
    """AdaLoRA divides by its rank, which peft 0.21 means to freeze and then unfreezes as it moves
    the adapter to its device: it would be trained, and every product kept for its gradient."""
    for name, parameter in model.named_parameters():
        if ".ranknum." in name:
            parameter.requires_grad_(False)


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
        names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
        last = [name for name in FEED_FORWARD if name in names]
        scaled = [name for name in KEYS_AND_VALUES if name in names]
        return peft.IA3Config(target_modules=scaled + last, feedforward_modules=last, **placed)
    placed["target_modules"] = target_modules(model, method.target_modules)
    return _ranked_config(method, placed, steps)


def _ranked_config(method: MethodSection, placed: dict[str, Any], steps: int) -> Any:
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
        return peft.AdaLoraConfig(
            init_r=rank + rank // 2,
            target_r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            total_step=max(steps, 3),
            tinit=steps // 10,
            tfinal=steps // 2,
            **placed,
        )
    return peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        use_rslora=method.name == "rslora",
        use_dora=method.name == "dora",
        init_lora_weights="pissa" if method.name == "pissa" else True,
        **placed,
    )


def freeze_all_but_last(model: nn.Module, count: int) -> nn.Module:
    """Only the last `count` decoder layers learn."""
    layers = _decoder_layers(model)
    model.requires_grad_(False)
    for layer in layers[-count:]:
        layer.requires_grad_(True)
    return model


def _decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The longest list of modules: every causal LM keeps its layers in one."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    return max(lists, key=len)


def target_modules(model: nn.Module, wanted: str | list[str]) -> str | list[str]:
    """Names of the layers to adapt, as this architecture calls them."""
    if isinstance(wanted, list):
        return wanted
    if wanted == "all-linear":
        return _linears_beside_experts(model) if _has_experts(model) else wanted
    present = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    if wanted == "attention":
        return [n for n in ATTENTION if n in present] or [n for n in FUSED if n in present]
    separate = [n for n in ATTENTION_ALL if n in present]
    if len(separate) > 1:
        return separate
    return [n for n in (*FUSED, *FUSED_OUTPUT) if n in present]


def _has_experts(model: nn.Module) -> bool:
    """Whether it is a mixture of experts, which transformers keeps as three-dimensional weights."""
    return any(parameter.dim() == 3 for parameter in model.parameters())


def _linears_beside_experts(model: Any) -> list[str]:
    """All linears but head and router. Left to itself, peft adapts every expert with a rank times
    their number: a billion parameters for Qwen3-30B-A3B at rank 16."""
    head = model.get_output_embeddings()
    linears = ((name, each) for name, each in model.named_modules() if isinstance(each, nn.Linear))
    names = {name.rsplit(".", 1)[-1] for name, each in linears if each is not head}
    return sorted(names - set(ROUTERS))
