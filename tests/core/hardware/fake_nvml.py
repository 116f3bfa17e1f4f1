"""A double of libnvidia-ml.so at the level of its C functions, put under the real pynvml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pynvml

GIB = 1024**3
SUCCESS, NOT_SUPPORTED, NOT_FOUND, LOST, UNKNOWN = 0, 3, 6, 15, 999
INSUFFICIENT_SIZE = 7


def _put(reference: Any, value: Any) -> None:
    """Write through a `byref` pointer, as the C library would."""
    reference._obj.value = value


@dataclass
class Card:
    """What one GPU answers. An int in `errors` for a function's name is returned instead."""

    name: bytes = b"NVIDIA GeForce RTX 4090"
    uuid: bytes = b"GPU-11111111-aaaa"
    total: int = 24 * GIB
    used: int = 2 * GIB
    reserved: int = GIB // 4
    free: int | None = None
    utilisation: int = 37
    temperature: int = 61
    milliwatts: int = 123_456
    capability: tuple[int, int] = (8, 9)
    processes: list[tuple[int, int]] = field(default_factory=list)
    drawing: list[tuple[int, int]] = field(default_factory=list)
    milliwatts_limit: int = 450_000
    clocks: dict[int, int] = field(default_factory=lambda: {1: 2520, 2: 10_501})
    slowed: int = 0
    pcie: tuple[int, int] = (4, 16)
    slices: list[Card] | None = None
    errors: dict[str, int] = field(default_factory=dict)


class FakeLibrary:
    """The functions that the readings call, on `cards`."""

    def __init__(self, *cards: Card) -> None:
        self.cards = list(cards)
        self.init_error = SUCCESS
        self.count_error = SUCCESS
        self.count: int | None = None
        self.starts = 0

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlDeviceGetName": self._buffer("name"),
            "nvmlDeviceGetUUID": self._buffer("uuid"),
            "nvmlDeviceGetTemperature": self._last("temperature"),
            "nvmlDeviceGetPowerUsage": self._last("milliwatts"),
            "nvmlDeviceGetEnforcedPowerLimit": self._last("milliwatts_limit"),
            "nvmlDeviceGetCurrentClocksThrottleReasons": self._last("slowed"),
            "nvmlDeviceGetComputeRunningProcesses_v3": self._running("processes"),
            "nvmlDeviceGetGraphicsRunningProcesses_v3": self._running("drawing"),
        }
        if name in answers:
            return self._guarded(name, answers[name])
        if name.startswith("nvmlDevice") and hasattr(self, f"_{name}"):
            return self._guarded(name, getattr(self, f"_{name}"))
        raise AttributeError(name)  # an old driver lacks functions

    def _guarded(self, name: str, answer: Any) -> Any:
        def call(handle: Any, *arguments: Any) -> int:
            card = self._card(handle.value or 1)
            if name in card.errors or "*" in card.errors:
                return card.errors.get(name, card.errors.get("*", SUCCESS))
            return answer(card, *arguments)

        return call

    def _card(self, handle: int) -> Card:
        """A card, or one of its slices: its number × 100 above that of the card."""
        card = self.cards[handle % 100 - 1]
        return card.slices[handle // 100 - 1] if handle >= 100 and card.slices else card

    def _nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: Any, device: Any) -> int:
        if not card.slices or index.value >= len(card.slices):
            return NOT_FOUND
        device._obj.value = 100 * (index.value + 1) + self.cards.index(card) + 1
        return SUCCESS

    @staticmethod
    def _nvmlDeviceGetMigMode(card: Card, current: Any, pending: Any) -> int:
        if card.slices is None:
            return NOT_SUPPORTED
        _put(current, 1)
        _put(pending, 1)
        return SUCCESS

    @staticmethod
    def _nvmlDeviceGetMaxMigDeviceCount(card: Card, count: Any) -> int:
        _put(count, 7)
        return SUCCESS

    @staticmethod
    def _nvmlDeviceGetClockInfo(card: Card, kind: Any, clock: Any) -> int:
        _put(clock, card.clocks[kind.value])
        return SUCCESS

    @staticmethod
    def _nvmlDeviceGetCurrPcieLinkGeneration(card: Card, generation: Any) -> int:
        _put(generation, card.pcie[0])
        return SUCCESS

    @staticmethod
    def _nvmlDeviceGetCurrPcieLinkWidth(card: Card, width: Any) -> int:
        _put(width, card.pcie[1])
        return SUCCESS

    @staticmethod
    def _buffer(attribute: str) -> Any:
        def answer(card: Card, buffer: Any, length: Any) -> int:
            buffer.value = getattr(card, attribute)
            return SUCCESS

        return answer

    @staticmethod
    def _last(attribute: str) -> Any:
        def answer(card: Card, *arguments: Any) -> int:
            _put(arguments[-1], getattr(card, attribute))
            return SUCCESS

        return answer

    @staticmethod
    def _running(attribute: str) -> Any:
        def answer(card: Card, count: Any, array: Any) -> int:
            running = getattr(card, attribute)
            _put(count, len(running))
            if array is None:
                return INSUFFICIENT_SIZE if running else SUCCESS
            for slot, (pid, memory) in zip(array, running, strict=False):
                slot.pid, slot.usedGpuMemory = pid, memory
            return SUCCESS

        return answer

    def nvmlInitWithFlags(self, flags: int) -> int:
        self.starts += 1
        return self.init_error

    def nvmlShutdown(self) -> int:
        return SUCCESS

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        _put(count, len(self.cards) if self.count is None else self.count)
        return self.count_error

    def nvmlSystemGetDriverVersion(self, buffer: Any, length: Any) -> int:
        buffer.value = b"570.86.10"
        return SUCCESS

    def nvmlSystemGetCudaDriverVersion(self, version: Any) -> int:
        _put(version, 12080)
        return SUCCESS

    def nvmlDeviceGetHandleByIndex_v2(self, index: Any, device: Any) -> int:
        if index.value >= len(self.cards):
            return NOT_FOUND
        card = self.cards[index.value]
        device._obj.value = index.value + 1
        return card.errors.get("handle", SUCCESS)

    @staticmethod
    def _nvmlDeviceGetMemoryInfo_v2(card: Card, memory: Any) -> int:
        info = memory._obj
        info.total, info.used, info.reserved = card.total, card.used, card.reserved
        free = card.total - card.used - card.reserved if card.free is None else card.free
        info.free = free & 0xFFFF_FFFF_FFFF_FFFF  # an unsigned number, like the library's
        return SUCCESS

    @staticmethod
    def _nvmlDeviceGetMemoryInfo(card: Card, memory: Any) -> int:
        info = memory._obj
        info.total, info.used = card.total, card.used
        info.free = card.total - card.used if card.free is None else card.free
        return SUCCESS

    @staticmethod
    def _nvmlDeviceGetUtilizationRates(card: Card, rates: Any) -> int:
        rates._obj.gpu = card.utilisation
        return SUCCESS

    @staticmethod
    def _nvmlDeviceGetCudaComputeCapability(card: Card, major: Any, minor: Any) -> int:
        _put(major, card.capability[0])
        _put(minor, card.capability[1])
        return SUCCESS


def install(monkeypatch: Any, library: FakeLibrary | None) -> None:
    """Put the library under pynvml; None stands for a machine without one."""
    monkeypatch.setattr(pynvml, "nvmlLib", library)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    if library is None:
        monkeypatch.setattr(pynvml, "CDLL", _no_library)


def _no_library(name: str) -> None:
    raise OSError(f"{name}: cannot open shared object file")
