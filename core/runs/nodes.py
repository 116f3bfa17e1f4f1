"""A run on several machines: each has its own run directory, and knows which of them it is.

All of them train the same model together and keep the same checkpoints, each on its own disk, so
that any of them can be looked at, stopped (which stops all) and resumed.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from core.errors import UserError, describe_os_error
from core.runs.directory import RunDirectory, write_atomically

if TYPE_CHECKING:
    from core.recipe import Recipe

FILE = "node.json"
DEFAULT_PORT = 29_500


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of several: its number, and where number 0 is reached (`host:port`)."""

    rank: int
    main: str


def node_of(recipe: Recipe, rank: int | None, main: str | None) -> Node | None:
    """The node that two options of the command line tell of; None for a run on one machine."""
    nodes = recipe.hardware.nodes
    if nodes == 1:
        if rank is None and main is None:
            return None
        raise UserError(
            "The recipe is for one machine.", "Set hardware.nodes, or leave out the node options."
        )
    if rank is None or main is None:
        raise UserError(
            f"The recipe is for {nodes} machines: each needs its number and where number 0 is.",
            "`tunedeck nodes RECIPE` prints the command for each of them.",
        )
    if not 0 <= rank < nodes:
        raise UserError(f"--node-rank {rank} is none of 0 to {nodes - 1}.")
    return Node(rank, _with_port(main))


def _with_port(main: str) -> str:
    host, separator, port = main.rpartition(":")
    if not separator:
        host, port = main, str(DEFAULT_PORT)
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise UserError(f"--main-address {main} is no address.", "Write it as host or host:port.")
    return f"{host}:{port}"


def named_for(recipe: Recipe, node: Node | None) -> Recipe:
    """The recipe under the name of this machine's run: on a shared disk they lie side by side."""
    if node is None or node.rank == 0:
        return recipe
    suffix = f"-node{node.rank}"
    named = recipe.model_copy(deep=True)
    named.name = recipe.name[: 60 - len(suffix)] + suffix
    return named


def node_commands(recipe: Recipe, file: str, main: str) -> list[str]:
    """The command line to run on each machine."""
    words = ["tunedeck", "train", file, "--main-address", main]
    return [shlex.join([*words, "--node-rank", str(rank)]) for rank in range(recipe.hardware.nodes)]


def write_node(run: RunDirectory, node: Node) -> None:
    """Keep it with the run, for every resume from now on."""
    try:
        write_atomically(run.path / FILE, json.dumps(asdict(node)))
    except OSError as error:
        raise describe_os_error(error, "write to the run directory") from error


def read_node(run: RunDirectory) -> Node | None:
    """What `write_node` kept; None for a run on one machine."""
    try:
        return Node(**json.loads((run.path / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
