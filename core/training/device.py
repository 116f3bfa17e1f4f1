"""Where a stage computes, settled before torch is imported.

A process trains on one GPU: TRL refuses more, and a run must not spill over to a card that
somebody else uses. Where several train together, each has one of its own.
"""

from __future__ import annotations

import logging
import os
import warnings

from core.errors import UserError
from core.hardware.host import cores
from core.hardware.machine import Gpu
from core.hardware.readings import read_machine
from core.training.together import Crew

ALLOCATOR = "expandable_segments:True"
NO_PEERS = "RTX 40"  # cards that cannot read each other's memory, which accelerate insists on


def prepare_environment(gpu: str) -> None:
    """Pin the GPU (`auto`, `cpu`, an index or a UUID) and quieten the libraries."""
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = _visible(gpu)
    quieten()


def environment_of(team: Crew) -> dict[str, str]:
    """What processes that train together find in their environment: their GPUs, and how many of
    the cores each may use."""
    found = {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(_name(gpu) for gpu in team.gpus),
        "OMP_NUM_THREADS": str(max(1, cores() // team.count)),
    }
    if any(NO_PEERS in (gpu.name or "") for gpu in team.gpus):
        found |= dict.fromkeys(("NCCL_P2P_DISABLE", "NCCL_IB_DISABLE"), "1")
    return found


def quieten() -> None:
    """Settings that libraries read when they are imported."""
    os.environ.setdefault("PYTORCH_ALLOC_CONF", ALLOCATOR)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)  # of libraries to each other
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def _visible(gpu: str) -> str:
    if gpu == "cpu":
        return ""
    machine = read_machine()
    gpus = (*machine.gpus, *machine.devices())  # a slice of one (MIG) has a UUID of its own
    if gpu == "auto":
        best = machine.best_gpu()
        return _name(best) if best else os.environ.get("CUDA_VISIBLE_DEVICES", "")
    for each in gpus:
        if gpu in (str(each.index), each.uuid):
            return _name(each)
    there = ", ".join(f"{each.index} ({each.name})" for each in machine.gpus) or "none"
    raise UserError(
        f"There is no GPU “{gpu}” on this machine; there is {there}.",
        "Set hardware.gpu to one of them, to auto or to cpu.",
    )


def _name(gpu: Gpu) -> str:
    return gpu.uuid or str(gpu.index)
