"""Memory and time that others measured on a GPU: `python -m tests.bench.published_runs`.

peft's own comparison of its methods (github.com/huggingface/peft, method_comparison/MetaMathQA at
5d602fdb, Apache-2.0) trained Llama-3.2-3B on an NVIDIA L40S with torch 2.13 for CUDA 13, and tells
for every run the most memory that torch had reserved, and how long it trained. Here the same step
is simulated: 4 rows of 768 tokens (their limit, at which longer rows were cut), in 16 bits without
checkpointing, with transformers' own loss and AdamW in several passes; and the time of 20,000 rows
is predicted as on the Plan screen, from assumptions alone. Taken are the runs whose adapter is one
of ours, to the parameter. Prints a table and keeps it in published_runs.csv. Needs no GPU.
"""

from __future__ import annotations

import csv
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.memory.setup import Setup
from core.memory.simulation.allocator import Allocator, replay, rounded
from core.memory.simulation.kernels import as_on_cuda
from core.memory.simulation.step import Log, Step
from core.methods import MethodName
from core.models.catalogue import card_for
from core.planning.gpus import gpu_named
from core.planning.speed import seconds_per_token
from core.planning.work import Work

TABLE = Path(__file__).with_suffix(".csv")
MODEL, ROWS, LENGTH = "meta-llama/Llama-3.2-3B", 4, 768
ALL_ROWS, ALL_TOKENS = 20_000, 4_198_051  # of rows batched by length: hardly padded
GPU = "L40S"
NUMBERS = ("rank", "virtual_tokens", "trained", "measured", "seconds", "simulated")
ATTENTION, MLP = ("q_proj", "v_proj"), ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Row:
    """One published run; `trained` are its parameters, `measured` and `simulated` bytes, `seconds`
    what its training took."""

    run: str
    method: MethodName
    rank: int
    virtual_tokens: int
    trained: int
    measured: int
    seconds: int
    simulated: int = 0

    @property
    def setup(self) -> Setup:
        return Setup(
            card_for(MODEL).shape,
            self.method,
            self.rank,
            MLP if "mlp" in self.run else ATTENTION,
            ROWS,
            LENGTH,
            gradient_checkpointing=False,
            expandable=False,
            virtual_tokens=self.virtual_tokens or 20,
        )

    @property
    def error(self) -> float:
        return self.simulated / self.measured - 1

    @property
    def predicted_seconds(self) -> float:
        """The middle of the range that the plan would show, were nothing measured on the GPU."""
        setup, gpu = self.setup, gpu_named(GPU)
        assert gpu is not None
        work = Work(
            self.method,
            rank=self.rank,
            targets=setup.targets,
            virtual_tokens=setup.virtual_tokens,
        )
        return ALL_TOKENS * seconds_per_token(
            setup.shape,
            work,
            tokens_per_row=ALL_TOKENS / ALL_ROWS,
            micro_batch=ROWS,
            gradient_checkpointing=False,
            flops=gpu.flops,
            on_gpu=True,
            padding=0.0,
        )


class PublishedStep(Step):
    """The step of those runs, whose loss is taken from all logits."""

    def record(self) -> Log:
        self._load()
        self._hold()
        stages = [self._taken()]
        trained = [each for each in self._model.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(trained, foreach=True)
        for _ in range(2):
            with as_on_cuda(), self._recorder:
                optimizer.zero_grad()
                self._forward_and_backward()
                nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
            stages.append(self._taken())
        kinds = self._recorder.phases
        weights = sum(size for key, size in stages[0] if kinds[key] == "weights")
        return Log(stages, kinds, warm_up=weights)

    def trained(self) -> int:
        return sum(each.numel() for each in self._model.parameters() if each.requires_grad)

    def _loss(self, ids: Tensor, labels: Tensor) -> Tensor:
        found: Any = self._called(input_ids=ids, labels=labels, num_items_in_batch=ids.numel())
        loss: Tensor = found.loss
        return loss


def simulated(row: Row) -> Row:
    """The row with what the simulation says; ValueError where other parameters are trained."""
    step = PublishedStep(row.setup)
    log = step.record()
    if step.trained() != row.trained:
        raise ValueError(f"{row.run} trained {row.trained} parameters, not {step.trained()}")
    allocator = Allocator(expandable=False)
    allocator.allocate(0, rounded(log.warm_up))
    allocator.free(0)
    for events in log.stages:
        replay(events, allocator)
    return replace(row, simulated=allocator.peak_reserved)


def known_rows() -> list[Row]:
    with TABLE.open(newline="") as file:
        lines = (line for line in file if not line.startswith("#"))
        return [
            Row(
                each["run"],
                each["method"],  # type: ignore[arg-type]
                *(int(each[name]) for name in NUMBERS),
            )
            for each in csv.DictReader(lines)
        ]


def write(rows: list[Row]) -> None:
    from core.memory.simulated import LIBRARIES, installed

    stack = ", ".join(f"{name} {installed(name)}" for name in LIBRARIES if installed(name))
    with TABLE.open("w", newline="") as file:
        file.write("# measured on an NVIDIA L40S by the maintainers of peft; bytes reserved\n")
        file.write(f"# simulated {time.strftime('%Y-%m-%d')} with {stack}\n")
        writer = csv.DictWriter(file, [*asdict(rows[0]), "error", "predicted_seconds"])
        writer.writeheader()
        for row in rows:
            fields = {**asdict(row), "error": f"{row.error:+.4f}"}
            writer.writerow({**fields, "predicted_seconds": round(row.predicted_seconds)})


def main() -> None:
    rows = []
    for row in known_rows():
        rows.append(simulated(row))
        print(
            f"{row.measured / 1e9:6.2f} GB {rows[-1].error:+7.2%}   "
            f"{row.seconds:5} s {row.predicted_seconds / row.seconds:5.2f} ×   {row.run}",
            flush=True,
        )
    write(rows)
    errors = sorted(abs(row.error) for row in rows)
    median = statistics.median(errors)
    times = sorted(row.predicted_seconds / row.seconds for row in rows)
    print(
        f"{len(rows)} runs: memory off by {median:.2%} in the median, {errors[-1]:.2%} at worst; "
        f"time {times[0]:.2f} to {times[-1]:.2f} times as long as measured"
    )


if __name__ == "__main__":
    from core.memory.simulation.worker import as_if_alone

    as_if_alone()
    main()
