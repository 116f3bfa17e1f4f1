"""Every allocation and every free of a computation, by storage, without any memory behind it.

Tensors live on the meta device: shapes are computed, nothing else. A dispatch mode sees the
result of each operation, forward and backward; a storage that is new is an allocation, and its
weak reference tells when the last tensor on it has gone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from core.memory.simulation.allocator import Event

Phase = Literal["activations", "loss", "workspace", "gradients"]
_ADD = torch.ops.aten.add.Tensor
_COPY = torch.ops.aten.copy_.default
_REFERENCES_OF_A_CALL = 4  # of a tensor that only the engine holds
_WITH_OUR_OWN = 2  # of its storage: the tensor, and the question itself
Replacement = Callable[..., Any]


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Logs (key, bytes) and (key, -1); `phases[key]` is the phase in which `key` was allocated, and
    `streams[key]` the stream, where it is not the one that computes: `stream` says which.

    `replacements` answers for operations that have no meta kernel; `composites` are made of
    others, whose results are logged as well.
    """

    def __init__(
        self, replacements: dict[Any, Replacement], composites: dict[Any, Replacement]
    ) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.phases: dict[int, str] = {}
        self.streams: dict[int, int] = {}
        self.phase: Phase = "activations"
        self.stream = 0
        self._replacements = replacements
        self._composites = composites
        self._live: dict[int, tuple[int, weakref.ref[Any]]] = {}
        self._next = 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it asks again, for the part that it has
        if func in self._composites:
            with self:
                return self._composites[func](*args, **(kwargs or {}))
        if func is _COPY and args[1].is_meta and not args[0].is_meta:
            return args[0]  # what is read back: the order of a reducer's buckets
        if func is _ADD and self._sums_gradients(args):
            return args[0].add_(args[1])
        replacement = self._replacements.get(func)
        result = (replacement or func)(*args, **(kwargs or {}))
        self._see(result)
        return result

    def _sums_gradients(self, args: Any) -> bool:
        """Whether this is the engine adding two gradients of one tensor. It does so in place
        where nobody else holds the first, but never under a dispatch mode like this one."""
        if torch.is_grad_enabled() or self.phase == "activations" or len(args) != 2:
            return False
        held, added = args
        return (
            isinstance(added, Tensor)
            and held.shape == added.shape
            and held.dtype == added.dtype
            and held._use_count() <= _REFERENCES_OF_A_CALL
            and torch._C._storage_Use_Count(held.untyped_storage()._cdata) <= _WITH_OUR_OWN
            and torch._prims_common.is_non_overlapping_and_dense_or_false(held)
        )

    @contextmanager
    def purpose(self, purpose: Phase) -> Iterator[None]:
        """What everything allocated meanwhile is for."""
        before, self.phase = self.phase, purpose
        with torch.no_grad():
            yield
        self.phase = before

    def rename(self, tensor: Tensor, purpose: str, stream: int = 0) -> None:
        """Say what a tensor turned out to be for, and on which stream it was allocated."""
        found = self._live.get(local(tensor).untyped_storage()._cdata)
        if found:
            self.phases[found[0]] = purpose
            if stream:
                self.streams[found[0]] = stream

    def hold(self, tensor: Tensor, phase: str) -> None:
        """Count a tensor that was there before: a weight, an optimiser's state."""
        self._allocate(local(tensor), phase)

    def release(self, tensor: Tensor) -> None:
        """Note that the tensor's storage is made empty, though the tensor stays."""
        found = self._live.pop(tensor.untyped_storage()._cdata, None)
        if found:
            self.events.append((found[0], -1))

    def _see(self, result: Any) -> None:
        if isinstance(result, Tensor):
            self._allocate(local(result), self._phase())
        elif isinstance(result, (tuple, list)):
            for each in result:
                self._see(each)

    def _phase(self) -> str:
        """In the backward pass, what runs with gradients enabled is a checkpoint's second run."""
        if self.phase == "workspace" and torch.is_grad_enabled():
            return "activations"
        return self.phase

    def _allocate(self, tensor: Tensor, phase: str) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._live or not tensor.is_meta:
            return
        size = storage.nbytes()
        if not size:
            return
        key = self._next
        self._next += 1
        self._live[address] = (key, weakref.ref(storage, self._forget(address, key)))
        self.events.append((key, size))
        self.phases[key] = "workspace" if self.stream else phase
        if self.stream:
            self.streams[key] = self.stream

    def _forget(self, address: int, key: int) -> Callable[[Any], None]:
        def gone(_: Any) -> None:
            if address in self._live and self._live[address][0] == key:
                del self._live[address]
                self.events.append((key, -1))

        return gone


def local(tensor: Tensor) -> Tensor:
    """The part that this process has of a tensor; all of it where it is not in parts."""
    return tensor._local_tensor if isinstance(tensor, DTensor) else tensor
