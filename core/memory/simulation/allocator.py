"""A model of torch's CUDA caching allocator: from a log of allocations to what is reserved.

The rules are those of c10/cuda/CUDACachingAllocator.cpp: sizes are rounded to 512 bytes; up to
1 MiB comes from a pool of 2 MiB segments, more from segments of 20 MiB, or of their own size
rounded to 2 MiB from 10 MiB on; the smallest free block that fits is taken and split; neighbours
are joined when they are freed. With expandable segments each pool is one range of addresses
that grows at its end, by 2 MiB or 20 MiB. A block that was used on one stream is not given to
another.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

MIB = 1024**2
SMALLEST = 512
SMALL = MIB
SMALL_SEGMENT, LARGE_SEGMENT = 2 * MIB, 20 * MIB
OWN_SEGMENT = 10 * MIB
SEGMENT_ROUNDING = 2 * MIB

Event = tuple[int, int]
"""(key, bytes) when `key` is allocated, (key, -1) when it is freed."""

Kind = tuple[bool, int]
"""Whether a block is small, and the stream it is used on: only blocks of one kind are exchanged."""


@dataclass(slots=True)
class Block:
    """A piece of a segment; `before` and `after` are its neighbours there."""

    address: int
    size: int
    kind: Kind
    free: bool = False
    before: Block | None = None
    after: Block | None = None


@dataclass(slots=True)
class _Pool:
    """The free blocks of one size class, by size and then address."""

    order: list[tuple[int, int]] = field(default_factory=list)
    blocks: dict[int, Block] = field(default_factory=dict)

    def add(self, block: Block) -> None:
        insort(self.order, (block.size, block.address))
        self.blocks[block.address] = block

    def remove(self, block: Block) -> None:
        del self.order[bisect_left(self.order, (block.size, block.address))]
        del self.blocks[block.address]

    def best_fit(self, size: int) -> Block | None:
        at = bisect_left(self.order, (size, -1))
        return self.blocks[self.order[at][1]] if at < len(self.order) else None


class Allocator:
    """Allocates and frees by key, and remembers the peaks (bytes, rounded sizes)."""

    def __init__(self, *, expandable: bool) -> None:
        self._expandable = expandable
        self._pools: defaultdict[Kind, _Pool] = defaultdict(_Pool)
        self._tails: dict[Kind, Block] = {}
        self._used: dict[int, Block] = {}
        self._next_address = 0
        self.allocated = self.reserved = 0
        self.peak_allocated = self.peak_reserved = 0

    def allocate(self, key: int, size: int, stream: int = 0) -> None:
        """Take `size` bytes under `key`, as malloc does; they are used on `stream`."""
        size = rounded(size)
        block = self._find(size, (size <= SMALL, stream))
        self._split(block, size)
        block.free = False
        self._used[key] = block
        self.allocated += block.size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def free(self, key: int) -> None:
        """Give back what `key` holds, and join it with free neighbours."""
        block = self._used.pop(key)
        self.allocated -= block.size
        block.free = True
        pool = self._pools[block.kind]
        for other in (block.before, block.after):
            if other is not None and other.free:
                pool.remove(other)
                block = self._joined(block, other)
        pool.add(block)

    def _find(self, size: int, kind: Kind) -> Block:
        """A block out of its pool: the best fit, else one at the end of what is reserved."""
        pool = self._pools[kind]
        found = pool.best_fit(size)
        if found is not None and not (self._expandable and found is self._tails.get(kind)):
            pool.remove(found)
            return found
        if self._expandable:
            return self._grown(size, kind)
        if found is not None:
            pool.remove(found)
            return found
        return self._new_segment(segment_size(size), kind)

    def _new_segment(self, size: int, kind: Kind) -> Block:
        block = Block(self._next_address, size, kind)
        self._next_address += size
        self.reserved += size
        return block

    def _grown(self, size: int, kind: Kind) -> Block:
        """The end of the pool's range, mapped as far as `size` needs."""
        tail = self._tails.get(kind)
        free = tail.size if tail is not None and tail.free else 0
        unit = SMALL_SEGMENT if kind[0] else LARGE_SEGMENT
        missing = -(-max(0, size - free) // unit) * unit
        self.reserved += missing
        if tail is not None and tail.free:
            self._pools[kind].remove(tail)
            tail.size += missing
            return tail
        start = 0 if tail is None else tail.address + tail.size
        block = Block(start, missing, kind, before=tail)
        if tail is not None:
            tail.after = block
        self._tails[kind] = block
        return block

    def _split(self, block: Block, size: int) -> None:
        rest = block.size - size
        keep_whole = rest <= SMALL if not (block.kind[0] or self._expandable) else rest < SMALLEST
        if keep_whole:
            return
        remaining = Block(block.address + size, rest, block.kind, True, block, block.after)
        if block.after is not None:
            block.after.before = remaining
        block.after = remaining
        block.size = size
        if self._tails.get(block.kind) is block:
            self._tails[block.kind] = remaining
        self._pools[block.kind].add(remaining)

    def _joined(self, one: Block, other: Block) -> Block:
        first, second = (one, other) if one.address < other.address else (other, one)
        first.size += second.size
        first.after = second.after
        if second.after is not None:
            second.after.before = first
        if self._tails.get(first.kind) is second:
            self._tails[first.kind] = first
        first.free = True
        return first


def rounded(size: int) -> int:
    """What an allocation of `size` bytes takes."""
    return max(SMALLEST, -(-size // SMALLEST) * SMALLEST)


def segment_size(size: int) -> int:
    """What is asked of CUDA where no free block holds `size` (rounded) bytes."""
    if size <= SMALL:
        return SMALL_SEGMENT
    if size < OWN_SEGMENT:
        return LARGE_SEGMENT
    return -(-size // SEGMENT_ROUNDING) * SEGMENT_ROUNDING


def replay(
    events: Iterable[Event], allocator: Allocator, streams: Mapping[int, int] | None = None
) -> None:
    """Run a log through the allocator. `streams` of the keys that are not on the first."""
    streams = streams or {}
    for key, size in events:
        if size < 0:
            allocator.free(key)
        else:
            allocator.allocate(key, size, streams.get(key, 0))
