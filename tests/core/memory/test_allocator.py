"""The allocator's rules, with numbers worked out by hand."""

from __future__ import annotations

import pytest

from core.memory.simulation.allocator import Allocator, replay, rounded, segment_size
from core.units import MIB

KIB = 1024


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 512), (512, 512), (513, 1024), (MIB, MIB), (MIB + 1, MIB + 512)]
)
def test_sizes_are_rounded_to_512_bytes(size: int, expected: int) -> None:
    assert rounded(size) == expected


@pytest.mark.parametrize(
    ("size", "segment"),
    [
        (512, 2 * MIB),
        (MIB, 2 * MIB),
        (MIB + 512, 20 * MIB),
        (10 * MIB - 512, 20 * MIB),
        (10 * MIB, 10 * MIB),
        (10 * MIB + 512, 12 * MIB),
        (33 * MIB, 34 * MIB),
    ],
)
def test_segments_have_the_sizes_of_cuda_s_allocator(size: int, segment: int) -> None:
    assert segment_size(size) == segment
    allocator = Allocator(expandable=False)
    allocator.allocate(1, size)
    assert allocator.reserved == segment


def test_small_blocks_share_a_segment() -> None:
    allocator = Allocator(expandable=False)
    for key in range(4):
        allocator.allocate(key, 512 * KIB)
    assert (allocator.allocated, allocator.reserved) == (2 * MIB, 2 * MIB)
    allocator.allocate(4, 1)
    assert (allocator.allocated, allocator.reserved) == (2 * MIB + 512, 4 * MIB)


def test_a_large_rest_up_to_1_mib_is_not_split_off() -> None:
    allocator = Allocator(expandable=False)
    allocator.allocate(1, 11 * MIB)  # of a segment of 12 MiB: the rest is exactly 1 MiB
    assert allocator.allocated == 12 * MIB
    allocator.free(1)
    allocator.allocate(2, 10 * MIB)  # the rest of 2 MiB is
    assert allocator.allocated == 10 * MIB
    allocator.allocate(3, 2 * MIB)
    assert allocator.reserved == 12 * MIB


def test_the_smallest_free_block_that_fits_is_taken() -> None:
    allocator = Allocator(expandable=False)
    for key, size in ((1, 40 * MIB), (2, 16 * MIB), (3, 30 * MIB)):
        allocator.allocate(key, size)
    for key in (1, 2, 3):
        allocator.free(key)
    allocator.allocate(4, 15 * MIB)
    allocator.allocate(5, 29 * MIB)
    allocator.allocate(6, 40 * MIB)
    assert allocator.reserved == 86 * MIB


def test_freed_neighbours_are_joined() -> None:
    allocator = Allocator(expandable=False)
    for key in (1, 2, 3, 4):
        allocator.allocate(key, 5 * MIB)  # all four in one segment of 20 MiB
    assert allocator.reserved == 20 * MIB
    for key in (1, 3, 2):
        allocator.free(key)
    allocator.allocate(5, 15 * MIB)
    assert (allocator.reserved, allocator.allocated) == (20 * MIB, 20 * MIB)


def test_fragments_cost_a_new_segment_unless_segments_expand() -> None:
    """Two blocks of 20 MiB with one between them do not serve 40 MiB; nothing is ever moved."""
    events = [(1, 20 * MIB), (2, 20 * MIB), (3, 20 * MIB), (1, -1), (3, -1), (4, 40 * MIB)]
    fixed, expandable = Allocator(expandable=False), Allocator(expandable=True)
    replay(events, fixed)
    replay(events, expandable)
    assert fixed.peak_reserved == 100 * MIB
    assert expandable.peak_reserved == 80 * MIB  # the last block grows by 20 MiB
    assert fixed.peak_allocated == expandable.peak_allocated == 60 * MIB


def test_expandable_segments_grow_by_whole_pages() -> None:
    allocator = Allocator(expandable=True)
    allocator.allocate(1, 3 * MIB)
    assert allocator.reserved == 20 * MIB
    allocator.allocate(2, 18 * MIB)
    assert allocator.reserved == 40 * MIB
    allocator.allocate(3, 600)
    assert allocator.reserved == 42 * MIB  # the pool of small blocks has pages of 2 MiB
    assert allocator.allocated == 21 * MIB + 1024


def test_everything_can_be_given_back_and_used_again() -> None:
    sizes = [(7919 * number) % (30 * MIB) + 1 for number in range(300)]
    for expandable in (False, True):
        allocator = Allocator(expandable=expandable)
        peaks = []
        for _ in range(2):
            for key, size in enumerate(sizes):
                allocator.allocate(key, size)
            for key in range(0, 300, 2):
                allocator.free(key)
            for key in range(1, 300, 2):
                allocator.free(key)
            assert allocator.allocated == 0
            peaks.append(allocator.peak_reserved)
        assert peaks[0] == peaks[1] >= allocator.peak_allocated


@pytest.mark.parametrize("expandable", [False, True])
def test_what_one_stream_has_freed_another_does_not_get(expandable: bool) -> None:
    """Blocks are kept by the stream that they were used on."""
    allocator = Allocator(expandable=expandable)
    replay([(1, 40 * MIB), (1, -1), (2, 40 * MIB), (2, -1)], allocator, {1: 1})
    assert allocator.peak_allocated == 40 * MIB
    assert allocator.peak_reserved == 80 * MIB
    replay([(3, 40 * MIB), (4, 40 * MIB)], allocator, {3: 1})
    assert allocator.peak_reserved == 80 * MIB
