"""Why one of several processes failed: each leaves a file, and the first of them is the cause.

When one dies the others lose their connection to it and fail as well, a moment later.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from core.runs.diagnosis import classify, oom_kills
from core.runs.directory import RunDirectory, write_atomically
from core.runs.state import Exit
from core.runs.tail import TAIL_BYTES
from core.training.together import Place

_RANK = re.compile(r"^\s*rank\s*:\s*(\d+)")
_EXIT_CODE = re.compile(r"^\s*exitcode\s*:\s*(-?\d+)")


def clear_failures(run: RunDirectory) -> None:
    shutil.rmtree(_folder(run), ignore_errors=True)


def note_failure(run: RunDirectory, place: Place, reason: Exit) -> None:
    """In the process that failed. A full disk must not hide the first cause."""
    try:
        _folder(run).mkdir(exist_ok=True)
        tree = {"t": time.time(), "rank": place.rank, **asdict(reason)}
        write_atomically(_folder(run) / f"{place.rank}.json", json.dumps(tree))
    except OSError as error:
        print(f"{reason.message} (and that could not be noted: {error.strerror})", flush=True)


def rank_log(run: RunDirectory, place: Place) -> Path:
    """Where a process that does not keep the run writes what its libraries print."""
    return run.data / f"rank-{place.rank}.log"


@dataclass(frozen=True, slots=True)
class Beginning:
    """How things stood when the processes were started: what is older is not theirs."""

    time: float
    log_bytes: int
    oom_kills: int


def beginning(run: RunDirectory) -> Beginning:
    try:
        size = run.log.stat().st_size
    except OSError:
        size = 0
    return Beginning(time.time() - 0.001, size, oom_kills())


def first_failure(run: RunDirectory, world: int, since: Beginning) -> Exit:
    """In the launcher, when torchrun has given up: what came first."""
    killed = _killed(_log_since(run, since.log_bytes))
    if killed is not None:
        rank, code = killed
        cause = classify(run, code, time.time(), out_of_memory=oom_kills() > since.oom_kills)
        return replace(cause, message=_of(rank, world, cause.message))
    noted = sorted(_noted(run), key=lambda tree: float(tree["t"]))
    if noted:
        first = noted[0]
        message = _of(int(first["rank"]), world, str(first["message"]))
        return Exit(str(first["code"]), message, str(first["remedy"]))
    return classify(run, 1, since.time)


def _log_since(run: RunDirectory, start: int) -> list[str]:
    try:
        with run.log.open("rb") as file:
            file.seek(max(start, run.log.stat().st_size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _of(rank: int, world: int, message: str) -> str:
    return f"Process {rank + 1} of {world}: {message}"


def _killed(lines: Sequence[str]) -> tuple[int, int] | None:
    """Rank and exit code of the one that a signal ended, by torchrun's last report.

    Its “first observed failure” may be another, which lost its connection to that one; and
    SIGTERM is what torchrun itself sends to those that are left.
    """
    starts = [at for at, line in enumerate(lines) if line.startswith("Failures:")]
    told = lines[starts[-1] :] if starts else []
    ranks = [int(found[1]) for line in told if (found := _RANK.match(line))]
    codes = [int(found[1]) for line in told if (found := _EXIT_CODE.match(line))]
    pairs = zip(ranks, codes, strict=False)
    return next((pair for pair in pairs if pair[1] < 0 and pair[1] != -signal.SIGTERM), None)


def _noted(run: RunDirectory) -> list[dict[str, Any]]:
    found = []
    for path in _folder(run).glob("*.json"):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return found


def _folder(run: RunDirectory) -> Path:
    return run.data / "failures"
