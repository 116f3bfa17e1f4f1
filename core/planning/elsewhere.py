"""The same run on GPUs that one could rent, and at managed services: time and money, as ranges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from core.methods import METHODS
from core.planning.basis import on_gpu_model
from core.planning.calibration import Measurement
from core.planning.candidates import Candidate
from core.planning.gpus import GpuModel, known_gpus, presets_tree
from core.planning.search import refitted

MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Rented:
    """A candidate as it would run on an idle card of another kind.

    `dollars` spans from the quickest run at the lowest price to the slowest at the highest;
    `price` is per hour, typed by the user where `typed`.
    """

    gpu: GpuModel
    candidate: Candidate
    price: tuple[float, float]
    typed: bool

    @property
    def fits(self) -> bool:
        return self.candidate.fits

    @property
    def seconds(self) -> tuple[float, float]:
        """The least and the most that it would take."""
        return self.candidate.seconds_low or 0.0, self.candidate.seconds_high or 0.0

    @property
    def dollars(self) -> tuple[float, float]:
        low, high = self.seconds
        return low / 3600 * self.price[0], high / 3600 * self.price[1]

    @property
    def middle(self) -> float:
        """Dollars at the middle of time and price: what the cheapest is chosen by."""
        return (self.candidate.seconds or 0.0) / 3600 * sum(self.price) / 2


@dataclass(frozen=True, slots=True)
class Managed:
    """A service that trains for a price per token. `dollars` is for all epochs.

    `models` says what it trains: open models of this size, or models of its own.
    """

    service: str
    models: str
    dollars: tuple[float, float]
    dated: str
    own_models: bool


def rented(candidate: Candidate, measured: Sequence[Measurement] = ()) -> tuple[Rented, ...]:
    """On every GPU of the presets that is usually rented: what fits first, the cheapest first."""
    found = []
    for gpu in known_gpus():
        basis = on_gpu_model(candidate.basis, gpu, measured)
        typed = basis.dollars_per_hour
        price = (typed, typed) if typed is not None else _together(gpu, basis.gpus)
        if price is not None:
            found.append(Rented(gpu, refitted(candidate, basis), price, typed is not None))
    return tuple(sorted(found, key=lambda one: (not one.fits, one.middle, one.gpu.name)))


def _together(gpu: GpuModel, gpus: int) -> tuple[float, float] | None:
    """What so many of them cost an hour; None for a card that nobody rents out."""
    return gpu.price and (gpu.price[0] * gpus, gpu.price[1] * gpus)


def worth_it(offers: Sequence[Rented]) -> list[Rented]:
    """Those than which no other is both quicker and cheaper, at the middle of their ranges."""
    return [
        one
        for one in offers
        if not any(
            other.middle < one.middle
            and (other.candidate.seconds or 0.0) < (one.candidate.seconds or 0.0)
            for other in offers
        )
    ]


def managed(candidate: Candidate) -> tuple[Managed, ...]:
    """At services that train by the token: those for open models of this size, then others."""
    millions = candidate.trained_tokens / MILLION
    parameters = candidate.model.shape.parameters
    full = METHODS[candidate.method].kind == "weights"
    found = []
    for service in _services():
        offer = _offer(service, parameters, full=full)
        if offer is None:
            continue
        low, high = offer["dollars"]
        dollars, own = (low * millions, high * millions), not service["open_models"]
        found.append(
            Managed(service["name"], offer["models"], dollars, str(service["priced"]), own)
        )
    return tuple(sorted(found, key=lambda one: (one.own_models, one.dollars)))


def _offer(service: dict[str, Any], parameters: int, *, full: bool) -> dict[str, Any] | None:
    """The price class that a model of this size falls into; services with models of their own
    have one for all."""
    for offer in service["offers"]:
        if offer.get("full", full) == full and parameters <= offer.get("below", 1e6) * 1e9:
            return dict(offer)
    return None


@cache
def _services() -> tuple[dict[str, Any], ...]:
    return tuple(presets_tree("services.yaml")["services"])
