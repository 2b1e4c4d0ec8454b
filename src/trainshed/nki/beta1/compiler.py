"""``neuronxcc.nki.compiler``: Beta-1 allocators and scheduling hints.

An allocator placed every block of a tensor by a function of its index. Here each block is storage of its own:
values are those of a kernel whose blocks do not overlap while both are in use, which Beta 1 required.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from trainshed.chip.words import MemoryRegion


class Allocation:
    """A buffer with addresses: ``sbuf.alloc(function)``, ``sbuf.mod_alloc(base_addr=…)``."""

    def __init__(self, region: MemoryRegion, addresses: Any) -> None:
        self.region, self.addresses = region, addresses


class _Allocator:
    def __init__(self, region: MemoryRegion) -> None:
        self.region = region

    def alloc(self, addresses: Any = None, **words: Any) -> Allocation:
        """Addresses by a function of block indices and tile sizes."""
        return Allocation(self.region, addresses or words)

    def mod_alloc(self, **words: Any) -> Allocation:
        """Addresses that repeat after a number of tiles."""
        return Allocation(self.region, words)

    auto_alloc = alloc


sbuf, psum = _Allocator(MemoryRegion.sbuf), _Allocator(MemoryRegion.psum)


def skip_middle_end_transformations(function: Any = None, **_: Any) -> Any:
    """A compiler hint (a decorator, with or without arguments); values do not depend on it."""
    return skip_middle_end_transformations if function is None else function


enable_stack_allocator = force_auto_alloc = skip_middle_end_transformations


@contextlib.contextmanager
def no_reorder(*_: Any, **__: Any) -> Iterator[None]:
    """Instructions in the order of the program, as they are here anyway."""
    yield


allocation_scope = multi_buffer = no_reorder
