"""The GPUs of `presets/gpus.yaml`: their memory, speed and typical price."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from functools import cache
from typing import Any

from core.paths import presets_root

MEMORY_TOLERANCE = 0.25
ANOTHER_CARD = frozenset({"ti", "super", "laptop", "mobile", "max", "d", "grid", "mig"})
"""Words that make another card of the same name before them."""
USUALLY_FREE = 0.97  # of a GPU's memory: the driver keeps some


@dataclass(frozen=True, slots=True)
class GpuModel:
    """An entry of presets/gpus.yaml. `flops` per second, memory in bytes, dollars per hour."""

    name: str
    match: tuple[str, ...]
    memory: int
    flops: float
    bandwidth: float
    bf16: bool
    price: tuple[float, float] | None

    @property
    def usually_free(self) -> int:
        """Bytes that a run finds free on an otherwise idle card."""
        return int(self.memory * USUALLY_FREE)


@cache
def known_gpus() -> tuple[GpuModel, ...]:
    """The GPUs of the presets."""
    return tuple(_gpu(entry) for entry in presets_tree("gpus.yaml")["gpus"])


def prices_dated() -> str:
    """When the prices were looked at."""
    return str(presets_tree("gpus.yaml")["priced"])


@cache
def presets_tree(name: str) -> dict[str, Any]:
    """A YAML file of the presets, with the C parser where there is one: five times faster."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with (presets_root() / name).open("rb") as file:
        tree: dict[str, Any] = yaml.load(file, Loader=loader)
    return tree


def _gpu(entry: dict[str, Any]) -> GpuModel:
    price = entry["price"]
    return GpuModel(
        name=entry["name"],
        match=tuple(str(entry["match"]).split()),
        memory=int(entry["memory"] * 1024**3),
        flops=entry["tflops"] * 1e12,
        bandwidth=entry["bandwidth"] * 1e9,
        bf16=entry["bf16"],
        price=(price[0], price[1]) if price else None,
    )


def likely_flops(memory: int) -> float:
    """Of a card of which nothing but its free memory is known, so that choices can be compared:
    what is usual for the smallest cards that have as much, and never less than for smaller ones."""
    return next((flops for size, flops in _usual_flops() if size >= memory), _usual_flops()[-1][1])


@cache
def _usual_flops() -> tuple[tuple[int, float], ...]:
    """The middle of the presets' rates by memory, rising."""
    found: list[tuple[int, float]] = []
    for size in sorted({gpu.memory for gpu in known_gpus()}):
        usual = statistics.median(gpu.flops for gpu in known_gpus() if gpu.memory == size)
        found.append((size, max(usual, found[-1][1] if found else 0.0)))
    return tuple(found)


def gpu_named(name: str, memory: int | None = None) -> GpuModel | None:
    """The preset for a GPU by the name that its driver (or a person) gives it.

    The entry with most matching words wins. One whose memory is far from the card's (a laptop's
    chip, a slice), or that lacks a word like Ti or Laptop, is another GPU.
    """
    words = set(re.findall(r"[a-z0-9]+", name.lower()))
    another = words & ANOTHER_CARD
    matching = [
        gpu for gpu in known_gpus() if words.issuperset(gpu.match) and another.issubset(gpu.match)
    ]
    if memory is None and not matching:
        matching = _meant_by(words)
    if memory is not None:
        matching = [g for g in matching if abs(g.memory - memory) < MEMORY_TOLERANCE * g.memory]
    return max(matching, key=lambda gpu: len(gpu.match), default=None)


def _meant_by(words: set[str]) -> list[GpuModel]:
    """The one that a person means who leaves words out, where that is one."""
    found = [gpu for gpu in known_gpus() if words and words.issubset(gpu.match)]
    fewest = min((len(gpu.match) for gpu in found), default=0)
    plain = [gpu for gpu in found if len(gpu.match) == fewest]
    return plain if len(plain) == 1 else []
