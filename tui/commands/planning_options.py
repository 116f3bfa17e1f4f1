"""The options that `plan` and `estimate` share: what is trained, and on how many GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from core.memory.setup import Sharding
from core.methods import METHODS
from core.objectives import OBJECTIVES
from core.units import parse_bytes

MOST_BARE = 100_000  # GiB, and far fewer bytes than anything takes
Command = TypeVar("Command", bound=Callable[..., Any])


class Memory(click.ParamType[int]):
    """An amount of memory: `24GiB`; a bare number that few bytes could be is in GiB, too."""

    name = "memory"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_bytes(f"{value}GiB" if _is_bare(value) else value)
        except ValueError:
            what = f"“{value}” is not an amount of memory; write it like 24GiB."
            self.fail(what, param, ctx)


def _is_bare(value: str) -> bool:
    number = value.strip()
    return number.replace(".", "", 1).isdecimal() and float(number) < MOST_BARE


SHARED: dict[str, dict[str, Any]] = {
    "model": {"help": "A hub id or a local folder."},
    "method": {"type": click.Choice(list(METHODS))},
    "objective": {"type": click.Choice(list(OBJECTIVES))},
    "seq-length": {"type": click.IntRange(8, 10_000_000)},
    "gpus": {
        "type": click.IntRange(1, 100_000),
        "default": 1,
        "show_default": True,
        "help": "That train together, those of all machines.",
    },
    "sharding": {
        "type": click.Choice(get_args(Sharding)),
        "default": "auto",
        "show_default": True,
        "help": "A copy on each GPU (ddp, auto), or parts.",
    },
}


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")


def shared_options(**own: dict[str, Any]) -> Callable[[Command], Command]:
    """These options, each with what is the command's own about it."""

    def decorate(command: Command) -> Command:
        for name, attributes in reversed(SHARED.items()):
            more = own.get(name.replace("-", "_"), {})
            command = click.option(f"--{name}", **{**attributes, **more})(command)
        return command

    return decorate


def check_shared(gpus: int, sharding: Sharding) -> None:
    """UserError for parts of a model on a single GPU."""
    from core.errors import UserError

    if gpus == 1 and sharding in ("fsdp", "zero3"):
        raise UserError(
            f"--sharding {sharding} splits the model over several GPUs.", "Give --gpus."
        )
