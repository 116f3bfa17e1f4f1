"""What the processes of one training say to each other. Imports torch when it is needed.

All of them must call these in the same order. A process on its own gets its own answer back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from core.training.together import place

PATIENCE = timedelta(minutes=30)  # one of them may be writing a large checkpoint


def join() -> None:
    """Find the others. Small questions go over the CPU, so that they never wait for a GPU."""
    if place().alone:
        return
    import torch
    import torch.distributed as group

    if torch.cuda.is_available():
        torch.cuda.set_device(place().local_rank)
        group.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE)
    else:
        group.init_process_group("gloo", timeout=PATIENCE)


def agreed(*flags: bool) -> list[bool]:
    """What at least one of the processes says yes to."""
    if place().alone:
        return list(flags)
    import torch
    import torch.distributed as group

    votes = torch.tensor([int(flag) for flag in flags])
    group.all_reduce(votes, group.ReduceOp.MAX)
    return [bool(vote) for vote in votes.tolist()]


def summed(value: int) -> int:
    """The sum over all processes."""
    if place().alone:
        return value
    import torch
    import torch.distributed as group

    total = torch.tensor(value)
    group.all_reduce(total)
    return int(total)


def largest(value: int) -> int:
    """The largest that any process has."""
    if place().alone:
        return value
    import torch
    import torch.distributed as group

    most = torch.tensor(value)
    group.all_reduce(most, group.ReduceOp.MAX)
    return int(most)


def mine(items: Sequence[Any], filler: Callable[[Any], Any] = lambda last: last) -> list[Any]:
    """This process's share of a list, as many as everybody's: what `filler` makes of the last
    fills it up."""
    here = place()
    rounds = math.ceil(len(items) / here.world)
    at = (turn * here.world + here.rank for turn in range(rounds))
    return [items[index] if index < len(items) else filler(items[-1]) for index in at]


def together(parts: Sequence[Any], count: int) -> list[Any]:
    """The answers to all `count` items in their order, from everybody's answers to `mine`."""
    everybody = answers(list(parts))
    world = len(everybody)
    return [everybody[index % world][index // world] for index in range(count)]


def answers(mine: Any) -> list[Any]:
    """What everybody says, in the order of the processes."""
    here = place()
    if here.alone:
        return [mine]
    import torch.distributed as group

    everybody: list[Any] = [None] * here.world
    group.all_gather_object(everybody, mine)
    return everybody


def gathered(values: Any) -> Any:
    """A one-dimensional tensor of what everybody has in theirs, in the order of the processes."""
    if place().alone:
        return values
    everybody = [value for part in answers(values.tolist()) for value in part]
    return values.new_tensor(everybody)


def means_of_all(parts: Mapping[str, tuple[float, int]]) -> dict[str, float]:
    """The means over all processes, from everybody's sums and how many values each is of."""
    totals: dict[str, tuple[float, int]] = {}
    for part in answers(dict(parts)):
        for name, (value, count) in part.items():
            before = totals.get(name, (0.0, 0))
            totals[name] = (before[0] + value, before[1] + count)
    return {name: value / count for name, (value, count) in totals.items()}


def wait_for_all() -> None:
    """Nobody goes on before everybody is here."""
    agreed(True)


def tell_all(source: int, tensors: Sequence[Any]) -> None:
    """What one of the processes has in its tensors is from now on in everybody's."""
    if place().alone:
        return
    import torch.distributed as group

    for tensor in tensors:
        group.broadcast(tensor, source)
