"""A model held in parts by two CPU processes (FSDP2, ZeRO-3) beside one process: the same training.

    python -m tests.bench.in_parts fsdp
    pip install deepspeed; python -m tests.bench.in_parts zero3 [CASE …]

Per case (method, objective, precision): one process trains a tiny model; two train it in parts,
are stopped after the first step and resumed; the result is merged and measured. Prints the
largest difference of loss, held-out loss and weights. Exit code 1 when a case differs by more
than its precision explains. The processes talk over gloo: nothing is said of NCCL, memory or speed.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import traceback
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["DS_ACCELERATOR"] = "cpu"

from safetensors.torch import load_file

from core.recipe import load_recipe, parse_recipe
from core.runs.directory import RunDirectory, create_run
from core.runs.events import EventReader
from core.runs.history import RunHistory
from core.training import finish, launch, worker
from core.training.launch import train_together
from core.training.reporter import Reporter
from core.training.together import Crew
from tests.core.training.odd_rank import first_is_best, fused_head
from tests.core.training.words import make_judged, make_pairs, make_rows
from tests.tiny import make_tiny_model

ROWS = 21
TOLERANCES = {"fp32": 1e-3, "bf16": 0.05}
MAKERS = {"sft": make_rows, "dpo": make_pairs, "kto": make_judged, "orpo": make_pairs}


@dataclass(frozen=True, slots=True)
class Case:
    """One recipe that both ways train."""

    method: str
    precision: str = "fp32"
    objective: str = "sft"
    checkpointing: bool = False
    earlier: bool = False  # the result is the first checkpoint, as if the last were worse
    fused: bool = False  # the head and the loss in one, as on a GPU

    def __str__(self) -> str:
        extra = ", checkpointing" * self.checkpointing + ", earlier weights" * self.earlier
        extra += ", fused head" * self.fused
        return f"{self.method} {self.objective} in {self.precision}{extra}"


CASES = (
    Case("lora"),
    Case("full"),
    Case("lora", fused=True),
    Case("full", fused=True),
    Case("lora", objective="dpo", fused=True),
    Case("lora", "bf16", checkpointing=True),
    Case("full", "bf16"),
    Case("lora", objective="dpo"),
    Case("lora", objective="kto"),
    *(Case(name) for name in ("dora", "lora+", "ia3", "oft", "loha", "lokr")),
    Case("lora", earlier=True),
    Case("full", earlier=True),
    Case("qlora", "bf16"),
)


def new_run(case: Case, folder: Path, **hardware: Any) -> RunDirectory:
    make = MAKERS[case.objective]
    gentle = case.method == "full" or case.precision == "bf16"  # else rounding decides
    tree = {
        "model": {"id": str(folder / "model"), "precision": case.precision},
        "method": {"name": case.method, "rank": 4, "layers": 1},
        "objective": case.objective,
        "data": {
            "train": [str(make(folder / f"{case.objective}.jsonl", ROWS, 1))],
            "eval": [str(make(folder / f"{case.objective}-eval.jsonl", 9, 2))],
        },
        "training": {
            "micro_batch": 2, "gradient_accumulation": 4, "epochs": 2, "eval_steps": 3,
            "save_steps": 3, "learning_rate": 2e-3 if gentle else 2e-2,
            "warmup": 0.0, "early_stopping": False, "gradient_checkpointing": case.checkpointing,
        },
        "evaluation": {"rows": 3, "max_new_tokens": 4},
        "hardware": {"gpu": "cpu", **hardware},
    }  # fmt: skip
    return create_run(parse_recipe(tree, "bench"))


def curves(run: RunDirectory) -> tuple[dict[int, float], dict[int, float]]:
    history = RunHistory()
    history.update(EventReader(run.events).read())
    return dict(history.loss), {step: loss for step, loss in history.eval_loss if step}


def train_in_parts(run: RunDirectory, like: RunDirectory, **odd: Any) -> None:
    """Stopped after its first step, and resumed by other processes."""
    shutil.copytree(like.data, run.data)
    os.environ["TUNEDECK_TEST_RANK"] = json.dumps({**odd, "probe": True})
    stop = run.control / "stop"
    stop.touch()
    for _ in range(2):
        failure = train_together(run, load_recipe(run.recipe), Crew(2), None, Reporter(run))
        if failure is not None:
            raise RuntimeError(failure.message)
        stop.unlink(missing_ok=True)


def weights(run: RunDirectory) -> dict[str, Any]:
    folder = run.adapter if run.adapter.is_dir() else run.merged
    return {name: value for path in folder.glob("*.safetensors")
            for name, value in load_file(path).items()}  # fmt: skip


def apart(run: RunDirectory, other: RunDirectory) -> dict[str, float]:
    """The largest differences; infinite where one has what the other lacks."""
    found = {}
    for name, ours, theirs in zip(("loss", "held-out"), curves(run), curves(other), strict=True):
        same = ours.keys() == theirs.keys() and ours
        found[name] = max(abs(ours[at] - theirs[at]) for at in ours) if same else float("inf")
    ours, theirs = weights(run), weights(other)
    same = ours.keys() == theirs.keys() and ours
    found["weights"] = (
        max(float((ours[name] - theirs[name]).abs().max()) for name in ours)
        if same
        else float("inf")
    )
    return found


def compare(case: Case, folder: Path, sharding: str) -> bool:
    one, parts = new_run(case, folder), new_run(case, folder, gpus=2, sharding=sharding)
    with (
        first_is_best() if case.earlier else nullcontext(),
        fused_head() if case.fused else nullcontext(),
    ):
        if worker.main([str(one.path)]) != 0:
            raise RuntimeError("one process could not train")
    odd = {"first_is_best": case.earlier, "fused_head": case.fused}
    train_in_parts(parts, one, cpu_parts=sharding, **odd)
    found = apart(parts, one)
    merged = finish.main([str(parts.path)]) == 0
    fits = merged and max(found.values()) <= TOLERANCES[case.precision]
    told = ", ".join(f"{name} {value:.2g}" for name, value in found.items())
    print(f"{'ok ' if fits else 'BAD'} {case}: {told}; finished: {merged}", flush=True)
    if not fits:
        print(f"one process: {curves(one)}\nin parts: {curves(parts)}", flush=True)
    return fits


def main() -> int:
    sharding, *wanted = sys.argv[1:]
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    launch.RANK_MODULE = "tests.core.training.odd_rank"
    finish.raise_when_asked_to_end = lambda: None  # it is this process
    fits = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        os.environ["TUNEDECK_HOME"] = str(folder / "home")
        make_tiny_model(folder / "model")
        for case in CASES:
            if wanted and str(case) not in wanted:
                continue
            if case.method in ("qlora", "dora") and sharding == "zero3":  # which is refused
                continue
            try:
                fits.append(compare(case, folder, sharding))
            except Exception:  # the next case may do better
                traceback.print_exc()
                print(f"BAD {case}", flush=True)
                fits.append(False)
    return 0 if fits and all(fits) else 1


if __name__ == "__main__":
    sys.exit(main())
