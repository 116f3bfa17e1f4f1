"""A model of images is trained as the language model in it, and is one afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    LlamaConfig,
)

from core.evaluation.results import read_results
from core.methods import MethodName
from core.runs.directory import RunDirectory
from core.training.finish import finish
from core.training.loading import language_model
from core.training.reporter import Reporter

NAMES = ("language_model.model.", "model.language_model.")


@pytest.fixture(scope="session")
def of_images(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Gemma 3 with eyes, and the tokenizer of the tiny Llama."""
    folder = tmp_path_factory.mktemp("models") / "gemma3"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    size = LlamaConfig.from_pretrained(tiny_model).vocab_size
    text = {
        "vocab_size": size + 8, "hidden_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "intermediate_size": 96, "layer_types": ["sliding_attention", "full_attention"],
    }  # fmt: skip
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 28, "patch_size": 14}  # fmt: skip
    torch.manual_seed(0)
    config = Gemma3Config(
        text_config=text, vision_config=vision, mm_tokens_per_image=4,
        boi_token_index=size, eoi_token_index=size + 1, image_token_index=size + 2,
    )  # fmt: skip
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("named", NAMES)
def test_the_language_model_in_it_is_loaded_alone(
    of_images: Path, tmp_path: Path, named: str
) -> None:
    """Whichever way the file names its weights."""
    shutil.copytree(of_images, tmp_path / "model")
    weights = load_file(of_images / "model.safetensors")
    for other in NAMES:
        weights = {name.replace(other, named): weight for name, weight in weights.items()}
    save_file(weights, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    whole = Gemma3ForConditionalGeneration.from_pretrained(of_images)
    alone = language_model(tmp_path / "model")
    assert not any("vision" in name for name, _ in alone.named_parameters())
    ids = torch.randint(3, 90, (2, 12))
    assert torch.equal(alone(input_ids=ids).logits, whole(input_ids=ids).logits)


@pytest.mark.parametrize("name", ["lora", "qlora", "full"])
def test_it_is_trained_merged_and_measured_without_eyes(
    of_images: Path,
    new_run: Callable[..., RunDirectory],
    train_here: Callable[[RunDirectory], int],
    name: MethodName,
) -> None:
    training: dict[str, Any] = {"max_steps": 4, "eval_steps": 4, "save_steps": 4}
    run = new_run(
        model=str(of_images),
        method={"name": name, "rank": 4},
        training={**training, "learning_rate": 2e-3},
        evaluation={"rows": 2, "max_new_tokens": 4},
    )
    assert train_here(run) == 0
    finish(run, Reporter(run))
    merged = AutoModelForCausalLM.from_pretrained(run.merged)
    assert type(merged).__name__ == "Gemma3ForCausalLM"
    assert read_results(run).models["tuned"].loss < read_results(run).models["base"].loss
