"""Several processes for one training: started through torchrun, watched, and started again.

The launcher is the stage that the keeper knows. It has prepared the run (model, rows, checks)
before the processes begin, passes a wish to stop on to them, and says why they failed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from types import FrameType

from core.children import command
from core.recipe import Recipe
from core.runs.directory import RunDirectory
from core.runs.lifeline import end_with_parent
from core.runs.nodes import Node
from core.runs.state import Exit, stored_state
from core.training.device import environment_of
from core.training.failures import beginning, clear_failures, first_failure
from core.training.recovery import MEMORY_CODES, halved, record
from core.training.reporter import Reporter
from core.training.together import Crew, shared

TICK_SECONDS = 0.1
RANK_MODULE = "core.training.rank"


def train_together(
    run: RunDirectory, recipe: Recipe, team: Crew, node: Node | None, reporter: Reporter
) -> Exit | None:
    """Train with all processes. None when trained or stopped, else why they could not go on.

    Where one of them runs out of memory they start again from the last checkpoint, with fewer
    rows at a time: the others cannot be called back from the middle of a step.
    """
    stop = _StopFile(run)
    world = _world(recipe, team, node)
    reporter.stage("importing")
    while True:
        failure = _one_try(run, recipe, team, node, stop)
        if failure is None or failure.code not in MEMORY_CODES:
            return failure
        smaller = _smaller(recipe, world)
        if smaller is None:
            return failure
        recipe = smaller
        record(run, recipe)
        part = shared(recipe, world).training
        reporter.warn(
            "out-of-memory-recovered",
            f"{failure.message} All go on from the last checkpoint with {part.micro_batch} rows "
            f"at a time, {part.gradient_accumulation} times a step: the same rows in every step.",
            "For more speed lower data.max_length, or use qlora.",
        )


def launch_command(run: RunDirectory, recipe: Recipe, team: Crew, node: Node | None) -> list[str]:
    """The command line of torchrun on this machine."""
    options = [f"--nproc-per-node={team.count}", "--max-restarts=0"]
    if node is None:
        options.append("--standalone")
    else:
        host, _, port = node.main.rpartition(":")
        options += [
            f"--nnodes={recipe.hardware.nodes}",
            f"--node-rank={node.rank}",
            f"--master-addr={host}",
            f"--master-port={port}",
        ]
    return command("torch.distributed.run", *options, "--module", RANK_MODULE, str(run.path))


def _one_try(
    run: RunDirectory, recipe: Recipe, team: Crew, node: Node | None, stop: _StopFile
) -> Exit | None:
    clear_failures(run)
    since = beginning(run)
    processes = subprocess.Popen(
        launch_command(run, recipe, team, node),
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment_of(team), **_environment(node)},
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )
    while processes.poll() is None:
        stop.pass_on()
        time.sleep(TICK_SECONDS)
    if processes.returncode == 0 or stored_state(run).phase == "stopping":
        return None
    return first_failure(run, _world(recipe, team, node), since)


def _world(recipe: Recipe, team: Crew, node: Node | None) -> int:
    return team.count * (recipe.hardware.nodes if node else 1)


def _environment(node: Node | None) -> dict[str, str]:
    """Our own modules and none from the working directory; alone, the loopback is the network."""
    found = {"PYTHONSAFEPATH": "1"}
    if node is None and "GLOO_SOCKET_IFNAME" not in os.environ:
        found["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    return found


def _smaller(recipe: Recipe, world: int) -> Recipe | None:
    """The recipe with which each process takes fewer rows at a time; None when it is one row."""
    before = shared(recipe, world).training.micro_batch
    smaller = halved(recipe)
    while smaller is not None and shared(smaller, world).training.micro_batch >= before:
        smaller = halved(smaller)
    return smaller


class _StopFile:
    """SIGTERM and SIGINT become the `stop` intent, which all processes agree on after a step.

    torchrun would pass the signal on and kill them after half a minute, in the middle of a save.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._file = run.control / "stop"
        self._asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def pass_on(self) -> None:
        if self._asked:
            with suppress(OSError):
                self._file.touch()
