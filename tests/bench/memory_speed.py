"""How long a memory prediction takes: `python -m tests.bench.memory_speed`.

The formula over every preset model and method, cold (shape and method never seen before) and warm
(only the batch changes); and simulations of an 8B LoRA in a child process, with the most RAM
it held. The limits are 1 ms a candidate, 20 s and 800 MB on two cores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace

from core.memory.formula import predict_setup
from core.memory.setup import Setup, to_json
from core.memory.simulated import WORKER
from core.methods import METHODS
from core.models.catalogue import card_for, load_catalogue

BATCHES = 20


def main() -> None:
    shapes = [card.shape for card in load_catalogue()]
    setups = [Setup(shape, method) for shape in shapes for method in METHODS]
    print(f"formula, cold: {1000 * _seconds(setups):.3f} ms a candidate ({len(setups)} of them)")
    warm = [Setup(one.shape, one.method, micro_batch=rows) for one in setups[:50]
            for rows in range(1, BATCHES)]  # fmt: skip
    print(f"formula, warm: {1000 * _seconds(warm):.3f} ms a candidate ({len(warm)} of them)")
    lora = Setup(card_for("meta-llama/Llama-3.1-8B").shape, "lora", seq_length=2048)
    for name, setup in (
        ("with checkpointing", lora),
        ("without checkpointing", replace(lora, gradient_checkpointing=False)),
        ("on four GPUs, a copy on each", replace(lora, gpus=4, sharding="ddp")),
        ("on four GPUs, in parts", replace(lora, gpus=4, sharding="fsdp")),
    ):
        seconds, most = _simulated(setup)
        print(f"simulation, 8B LoRA {name}: {seconds:.1f} s, {most / 1e6:.0f} MB")


def _seconds(setups: list[Setup]) -> float:
    started = time.perf_counter()
    for setup in setups:
        predict_setup(setup)
    return (time.perf_counter() - started) / len(setups)


def _simulated(setup: Setup) -> tuple[float, int]:
    """Seconds from start to end of the child, and its most bytes of resident memory."""
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", WORKER, to_json(setup)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit("The simulation failed.")
    scale = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - started, used.ru_maxrss * scale


if __name__ == "__main__":
    main()
