"""Measuring a run again from the app or the command line: the work is done in a child process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from core.children import Child
from core.errors import UserError
from core.evaluation.results import read_results
from core.runs.directory import RunDirectory
from core.runs.events import Event


def evaluate_run(
    run: RunDirectory, *, on_event: Callable[[Event], None] = lambda event: None
) -> dict[str, Any]:
    """Measure base and tuned on the held-out rows, as after training; returns what was found.

    `on_event` is told "progress" and "result" events. Blocks. UserError when it cannot be done.
    """
    child = Child("core.evaluation.worker", str(run.path))
    try:
        for event in child:
            if event.get("kind") == "error":
                raise UserError(event["message"], event.get("remedy", ""))
            if "kind" in event:
                on_event(event)
        code = child.wait()
    finally:
        child.close()
    if code != 0:
        last = child.last_errors.strip().splitlines()
        reason = f": {last[-1]}" if last else "."
        raise UserError(f"The evaluation ended with exit code {code}{reason}")
    models = read_results(run).models
    return {"run": run.id, "models": {name: asdict(models[name]) for name in models}}
