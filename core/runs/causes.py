"""What goes wrong in training, by the words that the libraries use for it.

One table serves the worker (an exception that it caught) and the keeper (the log of a stage
that died without a word).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from core.runs.state import Exit


@dataclass(frozen=True, slots=True)
class Cause:
    """A known failure: how to recognise it, what to say, what to do."""

    pattern: re.Pattern[str]
    exit: Exit


def _cause(pattern: str, code: str, message: str, remedy: str) -> Cause:
    return Cause(re.compile(pattern, re.IGNORECASE), Exit(code, message, remedy))


CAUSES = (
    _cause(
        r"CUDA out of memory|torch\.(cuda\.)?OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED",
        "gpu-out-of-memory",
        "The GPU ran out of memory.",
        "Lower training.micro_batch or data.max_length, turn on "
        "training.gradient_checkpointing, or use qlora; then resume.",
    ),
    _cause(
        r"\bMemoryError\b|can't allocate memory|Cannot allocate memory|std::bad_alloc",
        "out-of-memory",
        "The machine ran out of memory (RAM).",
        "Close other programs, choose a smaller model, or lower training.micro_batch.",
    ),
    _cause(
        r"No space left on device|\bENOSPC\b|Disk quota exceeded|File too large|\bEFBIG\b"
        r"|PytorchStreamWriter failed writing"
        r"|enforce fail at inline_container",
        "disk-full",
        "The disk is full.",
        "Free some space (old runs and their checkpoints take most), then resume.",
    ),
    _cause(
        r"GatedRepoError|gated repo|awaiting a review|403 Client Error",
        "gated-model",
        "The model is gated: its owner wants you to accept the licence first.",
        "Accept it on the model's page and set HF_TOKEN, then resume.",
    ),
    _cause(
        r"RepositoryNotFoundError|RevisionNotFoundError|401 Client Error|404 Client Error",
        "model-not-found",
        "The hub has no such model, or it is private.",
        "Check the model's id and HF_TOKEN.",
    ),
    _cause(
        r"LocalEntryNotFoundError|OfflineModeIsEnabled|Max retries exceeded|ConnectionError"
        r"|Name or service not known|Temporary failure in name resolution",
        "hub-unreachable",
        "The hub cannot be reached.",
        "Check the network, or give a local folder as the model.",
    ),
    _cause(
        r"libbitsandbytes|bitsandbytes.*(CUDA|library|binary|compiled)|CUDA Setup failed",
        "bitsandbytes-mismatch",
        "bitsandbytes does not fit this machine's CUDA libraries.",
        "`tunedeck doctor` names both versions; reinstall bitsandbytes, or train with lora.",
    ),
    _cause(
        r"CUDA driver version is insufficient|no kernel image is available"
        r"|forward compatibility was attempted|NVIDIA driver on your system is too old"
        r"|undefined symbol.*(cu|nv)",
        "cuda-mismatch",
        "The installed torch does not fit this machine's NVIDIA driver or GPU.",
        "`tunedeck doctor` names the versions; install the torch build for this driver.",
    ),
    _cause(
        r"CUDA error|CUBLAS_STATUS|CUDNN_STATUS|uncorrectable ECC|device-side assert|\bXid\b",
        "cuda-error",
        "The GPU reported an error.",
        "Resume; if it comes again, restart the machine or take another GPU.",
    ),
    _cause(
        r"ModuleNotFoundError|ImportError",
        "missing-library",
        "A library that training needs is missing or broken.",
        "`tunedeck doctor` says which; reinstall TuneDeck.",
    ),
    _cause(
        r"SafetensorError|HeaderTooLarge|MetadataIncompleteBuffer|UnpicklingError",
        "damaged-file",
        "A file of weights is damaged or incomplete.",
        "Delete it so that it is fetched again; a damaged checkpoint folder can be deleted too.",
    ),
    _cause(
        r"PermissionError|Permission denied",
        "no-permission",
        "A file may not be read or written.",
        "Check the permissions of the run's folder, the data and the model.",
    ),
    _cause(
        r"FileNotFoundError|No such file or directory",
        "missing-file",
        "A file is missing.",
        "Check that data and model still lie where the recipe says.",
    ),
)


def known_cause(text: str) -> Exit | None:
    """The failure that `text` (an exception, a log) speaks of, if it is a known one."""
    return next((cause.exit for cause in CAUSES if cause.pattern.search(text)), None)
