"""A training that kills itself at a chosen moment, as surely as kill -9 from outside would.

Moments are counted: before and after a step's computation, before each file of a checkpoint, in the
middle of one, before each flush, rename and deletion, at each event. The same count is the same
moment on any machine, however fast.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.training.worker import main


class Fate:
    """Counts moments, and ends this process at the chosen one, noting which it was."""

    def __init__(self, note: Path, chosen: int) -> None:
        self._note = note
        self._left = chosen

    def passes(self, moment: str, last_act: Callable[[], object] = lambda: None) -> None:
        self._left -= 1
        if self._left == 0:
            last_act()
            with self._note.open("a") as file:
                file.write(f"{moment}\n")
                file.flush()
            os.kill(os.getpid(), signal.SIGKILL)


def live(run: str, chosen: int) -> None:
    """Train until the chosen moment, or with 0 to the end."""
    fate = Fate(Path(run) / "deaths", chosen)
    _around_the_step(fate)
    _inside_the_save(fate)
    os._exit(main([run]))


def _around_the_step(fate: Fate) -> None:
    from core.training.reporter import Reporter
    from core.training.trainer import Tuner

    step, tell = Tuner.training_step, Reporter.tell

    def training_step(self: Any, *arguments: Any, **options: Any) -> Any:
        fate.passes("before a micro-batch")
        result = step(self, *arguments, **options)
        fate.passes("after a micro-batch")
        return result

    def telling(self: Any, kind: str, **fields: Any) -> None:
        tell(self, kind, **fields)
        if kind in ("log", "eval", "checkpoint"):
            fate.passes(f"after the event {kind}")

    Tuner.training_step = training_step  # type: ignore[method-assign]
    Reporter.tell = telling  # type: ignore[method-assign]


def _inside_the_save(fate: Fate) -> None:
    import torch

    from core.training import checkpoints

    save, flush, rename, discard = (
        torch.save, checkpoints._flush, os.rename, checkpoints.discard
    )  # fmt: skip

    def saving(value: Any, path: Any, *rest: Any, **options: Any) -> None:
        fate.passes("save: half a file", lambda: Path(path).write_bytes(b"half"))
        save(value, path, *rest, **options)

    def flushing(path: Path) -> None:
        fate.passes(f"save: before the flush of {path.name}")
        flush(path)

    def discarding(path: Path) -> None:
        fate.passes("save: before an old checkpoint goes")
        discard(path)

    def renaming(source: Any, target: Any) -> None:
        fate.passes("save: before a rename")
        rename(source, target)
        fate.passes("save: after a rename")

    torch.save = saving
    checkpoints._flush = flushing  # type: ignore[assignment]
    checkpoints.discard = discarding
    checkpoints.os.rename = renaming  # type: ignore[assignment]
