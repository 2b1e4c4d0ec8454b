"""``neuronxcc.nki.compiler``: Beta-1 allocators and scheduling hints.

An allocator placed every block of a tensor by a function of its index. Here each block is storage of its own:
values are those of a kernel whose blocks do not overlap while both are in use, which Beta 1 required.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from trainshed.chip.words import MemoryRegion

Function = TypeVar("Function", bound=Callable[..., Any])


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


def skip_middle_end_transformations(function: Function) -> Function:
    """A compiler hint; values do not depend on it."""
    return function


enable_stack_allocator = force_auto_alloc = skip_middle_end_transformations


@contextlib.contextmanager
def no_reorder() -> Iterator[None]:
    """Instructions in the order of the program, as they are here anyway."""
    yield
