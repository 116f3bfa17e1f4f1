"""A rank that misbehaves as the environment tells it, so that tests meet it at a known moment.

`TUNEDECK_TEST_RANK` holds JSON: `wait` (before this step, until the file `go` lies in the run),
`greedy` ([rank, from step, rows]: more rows at a time do not fit there), `cpu_parts` (accelerate
splits models over GPUs alone: let it take this CPU for one, for "fsdp" or "zero3"), `probe`
(the step before the first is tried, as on a GPU), `first_is_best` and `fused_head` (see there),
`then` (runs to train in next, which saves starting anew; whoever asked them to stop is told that
they did).
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from core.training import rank
from core.training.together import place

PATIENCE = 330.0  # longer than the test's own: it is the one to say what is wrong


def main(arguments: list[str]) -> int:
    odd = json.loads(os.environ["TUNEDECK_TEST_RANK"])
    if odd.get("cpu_parts"):
        _take_the_cpu_for_a_gpu(odd["cpu_parts"])
    if "wait" in odd:
        _wait(Path(arguments[0]), odd["wait"])
    if odd.get("greedy", [None])[0] == place().rank:
        _run_out_of_memory(*odd["greedy"][1:])
    if odd.get("probe"):
        _probe()
    if odd.get("first_is_best"):
        first_is_best().__enter__()
    if odd.get("fused_head"):
        fused_head().__enter__()
    code = rank.main(arguments)
    rank.join = lambda: None  # they have met
    for run in odd.get("then", []):
        (Path(run) / "control" / "stop").unlink(missing_ok=True)
        code = code or rank.main([run])
    return code


def _wait(run: Path, step: int) -> None:
    from core.training.watch import Watch

    original = Watch.on_step_begin

    def waiting(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step + 1 == step:
            (run / f"waiting-{place().rank}").write_text(str(os.getpid()))
            deadline = time.monotonic() + PATIENCE
            while not (run / "go").exists() and time.monotonic() < deadline:
                time.sleep(0.01)
        original(self, args, state, control, **rest)

    Watch.on_step_begin = waiting  # type: ignore[method-assign]


def _run_out_of_memory(step: int, rows: int) -> None:
    import torch

    from core.training.trainer import Tuner

    original = Tuner.compute_loss

    def limited(self: Any, model: Any, inputs: Any, *rest: Any, **options: Any) -> Any:
        if self.state.global_step + 1 >= step and len(inputs["labels"]) > rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(self, model, inputs, *rest, **options)

    Tuner.compute_loss = limited  # type: ignore[method-assign]


def first_is_best() -> AbstractContextManager[object]:
    """Whatever is measured after the first checkpoint is called worse than that."""
    from core.training.best import Judge

    return patch.object(
        Judge, "_compare", lambda self, found: "best" if self.best in (None, found) else "worse"
    )


def fused_head() -> AbstractContextManager[object]:
    """Head and loss in one, by tiles, as on a GPU where logits are many."""
    from core.training.trainer import Tuner

    return patch.object(Tuner, "_wants_fused_head", lambda self, labels: True)


def _probe() -> None:
    from core.training import trainer

    trainer.should_probe = lambda: True


def _take_the_cpu_for_a_gpu(kind: str) -> None:
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    taken = {"fsdp": DistributedType.MULTI_GPU, "zero3": DistributedType.DEEPSPEED}[kind]
    original = PartialState.__init__

    def disguised(self: Any, *arguments: Any, **options: Any) -> None:
        original(self, *arguments, **options)
        if self.distributed_type is DistributedType.MULTI_CPU:
            self.distributed_type = taken

    PartialState.__init__ = disguised  # type: ignore[method-assign]


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
