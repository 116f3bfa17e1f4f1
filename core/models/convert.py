"""A GGUF file turned into a folder that can be trained: `… core.models.convert FILE FOLDER`.

Runs in a process of its own: it holds the weights twice for a moment, which a process that goes
on to train must not have paid for.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path


def main(gguf: Path, folder: Path) -> None:
    """Write bf16 safetensors, the tokenizer with its chat template, and what stops generation."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    os.nice(10)  # the app that is in use meanwhile must stay quick
    _read_once()
    source = {"gguf_file": gguf.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.bfloat16, **source)
    _forget_quantisation(model)
    stop, begin = tokenizer.eos_token_id, tokenizer.bos_token_id
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    pad = tokenizer.pad_token_id
    for name, token in (("eos", stop), ("bos", begin), ("pad", pad)):
        setattr(model.config, f"{name}_token_id", token)
    model.generation_config = GenerationConfig(
        bos_token_id=begin, eos_token_id=stop, pad_token_id=pad
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _read_once() -> None:
    """transformers parses the file three times, and a map of names once a layer: 15 s of 20."""
    import gguf

    gguf.GGUFReader = functools.cache(gguf.GGUFReader)
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)


def _forget_quantisation(model: object) -> None:
    """transformers refuses to save a model that it remembers as quantised."""
    for owner, name in ((model, "hf_quantizer"), (model.config, "quantization_config")):  # type: ignore[attr-defined]
        if hasattr(owner, name):
            delattr(owner, name)


if __name__ == "__main__":
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
