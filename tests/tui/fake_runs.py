"""Run folders as a worker would leave them, and a process that holds a run's lock."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from textual.pilot import Pilot

from core.evaluation.metrics import Answer
from core.evaluation.results import ModelResult, save
from core.recipe import DataSection, HardwareSection, ModelSection, Recipe
from core.runs.directory import RunDirectory
from core.runs.state import Phase, RunState, write_state
from tui.screens.run_place import RunPlace

START = 1_760_000_000.0
STEPS = 60
HOLDER = """
import sys
from pathlib import Path
from core.runs.lock import RunLock
assert RunLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def make_run(
    root: Path, name: str = "spoken-json", *, model: str = "org/Tiny-Llama"
) -> RunDirectory:
    """A run's folder with its recipe, as `create_run` makes it, under a name that never varies."""
    run = RunDirectory(root / f"{name}-20260101-120000")
    run.control.mkdir(parents=True)
    recipe = Recipe(
        name=name,
        model=ModelSection(id=model),
        data=DataSection(train=["rows.jsonl"]),
        hardware=HardwareSection(gpu="cpu", dollars_per_hour=1.8),
    )
    run.recipe.write_text(recipe.to_yaml(), encoding="utf-8")
    return run


def loss_at(step: int) -> float:
    return 2.6 * math.exp(-step / 14) + 0.08 + 0.12 * math.sin(step * 1.7) * math.exp(-step / 30)


def training_events(upto: int, *, first: int = 1, start: float = START) -> list[dict[str, Any]]:
    """What a run tells from its launch to step `upto`, a step every two seconds."""
    events = [
        {"t": start, "kind": "state", "phase": "preparing", "stage": ""},
        {"t": start + 1, "kind": "state", "phase": "preparing", "stage": "encoding"},
        {"t": start + 4, "kind": "state", "phase": "running", "stage": "loading"},
        {
            "t": start + 10,
            "kind": "state",
            "phase": "running",
            "stage": "training",
            "total_steps": STEPS,
        },
    ]
    for step in range(first, upto + 1):
        at = start + 10 + 2 * (step - first + 1)
        events.append(log_event(step, at))
        if step % 10 == 0:
            events.append({"t": at, "kind": "eval", "step": step, "loss": loss_at(step) + 0.05})
            path = f"checkpoints/checkpoint-{step}"
            events.append({"t": at, "kind": "checkpoint", "step": step, "path": path})
    return events


def log_event(step: int, at: float, loss: float | None = None) -> dict[str, Any]:
    return {
        "t": at,
        "kind": "log",
        "step": step,
        "epoch": step / 20,
        "loss": loss_at(step) if loss is None else loss,
        "lr": 1e-3 * (1 - step / STEPS),
        "grad_norm": 0.5 + 0.3 * math.sin(step),
        "tokens": step * 512,
        "tokens_per_s": 256.0 + step,
        "step_seconds": 2.0,
    }


def tell(run: RunDirectory, events: list[dict[str, Any]]) -> None:
    """Append events to the run's stream."""
    with run.events.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"v": 1, **event}) + "\n" for event in events)


def put_state(run: RunDirectory, phase: Phase, **fields: Any) -> None:
    write_state(run, RunState(phase=phase, created=START, total_steps=STEPS, **fields))


def put_samples(run: RunDirectory, *, gpus: int = 0, count: int = 40, start: float = START) -> None:
    """Readings of the machine as the keeper samples them."""
    gib = 1024**3
    with run.gpu.open("w", encoding="utf-8") as file:
        for second in range(count):
            cards = [
                {
                    "index": index,
                    "used": (8 + second // 10) * gib,
                    "total": 24 * gib,
                    "utilisation": 90 + second % 7,
                    "temperature": 60 + index,
                    "power": 300.0,
                }
                for index in range(gpus)
            ]
            sample = {"v": 1, "t": start + second, "kind": "machine", "cpu": 50.0 + second}
            file.write(json.dumps({**sample, "ram_available": 10 * gib, "gpus": cards}) + "\n")


def finished_run(root: Path, name: str = "spoken-json") -> RunDirectory:
    """A run that went well, to the last event."""
    run = make_run(root, name)
    end = START + 10 + 2 * STEPS
    tell(run, training_events(STEPS))
    put_samples(run)
    tell(
        run,
        [
            {"t": end + 1, "kind": "state", "phase": "running", "stage": "merging"},
            {"t": end + 5, "kind": "state", "phase": "running", "stage": "evaluating"},
            {"t": end + 30, "kind": "result", "model": "tuned", "exact_match": 0.95, "rows": 40},
            {"t": end + 60, "kind": "result", "model": "base", "exact_match": 0.05, "rows": 40},
            {"t": end + 60, "kind": "done", "phase": "finished", "exit_code": 0},
        ],
    )
    put_state(run, "finished", step=STEPS)
    run.log.write_text("loading weights\ntraining\nsaved the adapter\n", encoding="utf-8")
    return run


def put_results(run: RunDirectory, rows: int = 40) -> None:
    """Evaluated answers: the tuned model fails on every 20th row, the base knows every 20th."""
    for name, good in (("tuned", lambda n: n % 20 != 0), ("base", lambda n: n % 20 == 1)):
        answers = [
            Answer(
                number=number,
                prompt=f"switch lamp {number} on, please",
                reference=f'{{"lamp": {number}, "on": true}}',
                answer=f'{{"lamp": {number}, "on": true}}' if good(number) else "Sure! I can help.",
                exact=good(number),
                ended="stop" if name == "tuned" else "length",
            )
            for number in range(1, rows + 1)
        ]
        share = sum(answer.exact for answer in answers) / rows
        loss = 0.031 if name == "tuned" else 2.75
        result = ModelResult(
            name, loss, math.exp(loss), rows, rows * 21, share, share, rows, 0.0, 58, rows * 20
        )
        save(run, result, answers)


@contextmanager
def held_lock(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run's lock: the run lives."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    try:
        yield holder
    finally:
        holder.kill()
        holder.communicate()


async def settle(pilot: Pilot[Any], seconds: float = 10.0) -> None:
    """Wait until the place in front has read its run to the present and has drawn it."""
    for _ in range(int(seconds / 0.05)):
        screen = pilot.app.screen
        if isinstance(screen, RunPlace) and screen.view is not None and not screen.view.behind:
            screen.look()  # the first look may have come before the first layout
            await pilot.pause(0.2)
            return
        await pilot.pause(0.05)
    raise AssertionError("the run was not read in time")


async def until(pilot: Pilot[Any], what: Any, seconds: float = 30.0) -> None:
    """Wait until `what()` holds."""
    for _ in range(int(seconds / 0.05)):
        if what():
            return
        await pilot.pause(0.05)
    raise AssertionError("it did not happen in time")


def shown(pilot: Pilot[Any]) -> str:
    """The characters on the screen, a line each."""
    width, height = pilot.app.size
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text[:width].rstrip() for strip in strips[:height])
