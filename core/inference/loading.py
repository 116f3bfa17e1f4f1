"""Loading a model to answer with, and where: the GPU with the most room, else the CPU."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.methods import Bits
from core.models.catalogue import card_for

# Beside the weights: the context, activations and what the driver keeps for itself.
_ROOM = 1.15
_ROOM_BYTES = 1024**3
QUANTISATION_CONSTANTS = 1.04  # the scales of the blocks, as a share of the weights


def weight_bytes(folder: Path, bits: Bits = 16) -> int:
    """Bytes of the weights as they lie in the folder; less where they are loaded in fewer bits."""
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if bits == 16:
        return stored
    try:
        shape = card_for(str(folder)).shape
    except UserError:
        return stored
    rest = 2 * (shape.parameters - shape.in_linear)
    return min(stored, rest + int(shape.in_linear * bits / 8 * QUANTISATION_CONSTANTS))


def choose_device(weights: int, wanted: str = "auto") -> str:
    """`cuda:N` where `weights` bytes and a context have room, else `cpu`."""
    import torch

    if wanted == "cpu" or not torch.cuda.is_available():
        return "cpu"
    free = {index: torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count())}
    best = max(free, key=lambda index: free[index])
    return f"cuda:{best}" if free[best] > weights * _ROOM + _ROOM_BYTES else "cpu"


def device_name(device: str) -> str:
    """What a person calls the device: the GPU's name, or CPU."""
    if not device.startswith("cuda"):
        return "CPU"
    import torch

    return str(torch.cuda.get_device_name(device))


def check_model_folder(folder: Path) -> None:
    """UserError unless the folder holds a model with its tokenizer."""
    if not folder.is_dir():
        raise UserError(f"There is no model folder {folder}.", "Check the path.")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no model: config.json is missing.")
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{folder} holds no weights: there is no .safetensors file.",
            "Download or merge it again.",
        )


def load_model(folder: Path, device: str, adapter: Path | None = None, bits: Bits = 16) -> Any:
    """The causal LM in `folder` in bf16 on `device`, ready to answer. UserError when broken.

    `bits`: of the weights that the adapter was trained on; it knows the model by their rounding.
    """
    import torch

    from core.training.loading import language_model, plain_weights, quantization

    check_model_folder(folder)
    try:
        model = language_model(
            folder,
            dtype=torch.bfloat16,
            local_files_only=True,
            device_map={"": device},
            **quantization(bits, torch.bfloat16),
        ).eval()
        if bits < 16 and device == "cpu":
            model = plain_weights(model)  # faster there, and some layers answer wrongly otherwise
        if adapter is not None:
            model = _with_adapter(model, adapter)
    except Exception as error:  # each of the loaders below raises its own kinds
        raise UserError(
            f"The model in {adapter or folder} cannot be loaded: {first_line(error)}",
            "Its files may be damaged.",
        ) from error
    return model


def _with_adapter(model: Any, adapter: Path) -> Any:
    from peft import PeftModel

    from core.inference.soft_prompts import answering
    from core.training.adapters import keep_dtype

    adapted = PeftModel.from_pretrained(model, str(adapter)).eval()
    keep_dtype(adapted)
    return answering(adapted)


def quiet_transformers() -> None:
    """No progress bars and advice on stderr: what matters is told by our own events."""
    import transformers

    # AdaLoRA's pattern of ranks, which peft loads by other means than the one that warns.
    warnings.filterwarnings("ignore", message="The following rank_pattern keys")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def first_line(error: Exception) -> str:
    """What a library says is wrong, without the pages that follow."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
