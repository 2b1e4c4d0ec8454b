"""The operands of all instructions of a core as columns, and the bytes that regions touch.

Analyses of a finished run (``chip/allocate.py``, ``chip/hazards.py``, ``chip/profile.py``) start from these.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from trainshed.chip.core import NeuronCore
from trainshed.chip.memory import Storage
from trainshed.chip.record import Region
from trainshed.chip.words import MemoryRegion
from trainshed.numerics.formats import DTYPES

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Accesses:
    """Every operand of every instruction of one core in program order; reads come before an instruction's writes."""

    core: NeuronCore
    regions: list[Region]
    time: Array
    """Index of the instruction, per operand."""
    write: Array
    """Whether the operand is written, per operand."""
    storage: Array
    """Serial of the operand's storage, per operand."""

    @cached_property
    def forms(self) -> Array:
        """A number per operand: equal for those that are equal but for storage and offset."""
        if not self.regions:
            return np.zeros(0, np.int64)
        _, buffers, dtypes, _, patterns, kinds = zip(*self.regions, strict=True)
        found, objects = _numbered([id(pattern) for pattern in patterns])  # few objects: ``chip/call.py``
        known: dict[object, int] = {}
        by_object: dict[Hashable, Hashable] = dict(zip(map(id, patterns), patterns, strict=True))
        found = np.array([known.setdefault(by_object[one], len(known)) for one in objects], np.int64)[found]
        for column in (buffers, dtypes, kinds):
            more, values = _numbered(column)
            found = found * len(values) + more
        return found

    @cached_property
    def parts(self) -> Array:
        """A number per operand: equal for those that are the same bytes of their storages, as the same dtype."""
        offsets = _numbered([region[3] for region in self.regions])[0]
        found: Array = np.unique(self.forms * (len(offsets) + 1) + offsets, return_inverse=True)[1]
        return found

    @cached_property
    def _by_storage(self) -> tuple[Array, Array]:
        order = np.argsort(self.storage, kind="stable")
        return order, self.storage[order]

    def of(self, serial: int) -> Array:
        """Indices of the operands in one storage, in program order."""
        order, storages = self._by_storage
        low, high = np.searchsorted(storages, (serial, serial + 1))
        found: Array = order[low:high]
        return found


def _numbered(column: Sequence[Hashable]) -> tuple[Array, list[Hashable]]:
    """A number per value, and the values in the order of their numbers."""
    known = {value: number for number, value in enumerate(dict.fromkeys(column))}
    return np.fromiter(map(known.__getitem__, column), np.int64, len(column)), list(known)


_SIZES = {str.__str__(name): kind.itemsize for name, kind in DTYPES.items()}


def itemsize(region: Region) -> int:
    """Bytes of one element (a plain look-up: regions are many)."""
    return _SIZES[str.__str__(region.dtype)]


def accesses(core: NeuronCore) -> Accesses:
    """The columns of a core's records."""
    regions: list[Region] = []
    counts: list[int] = []
    for instruction in core.instructions:
        reads, writes = instruction.reads, instruction.writes
        regions += reads
        regions += writes
        counts.append(len(reads))
        counts.append(len(writes))
    total = len(core.instructions)
    return Accesses(
        core,
        regions,
        np.repeat(np.repeat(np.arange(total, dtype=np.int64), 2), counts),
        np.repeat(np.tile(np.array([False, True]), total), counts),
        np.fromiter((region[0] for region in regions), np.int64, len(regions)),
    )


@dataclass(frozen=True)
class Lives:
    """On-chip storages that a core uses, and when: inclusive instruction indices from first write to last access."""

    storages: list[Storage]
    first: Array
    last: Array


def lives(columns: Accesses, buffer: str) -> Lives:
    """Liveness of a core's storages in ``sbuf`` or ``psum``; those that no instruction touches are left out."""
    core = columns.core
    first = np.full(len(core.storages), -1, np.int64)
    last, wrote = first.copy(), first.copy()
    # Serials of one launch count in steps of its cores; what other cores allocated is never on chip here.
    own = columns.storage % core.cores == core.index
    index, time, write = columns.storage[own] // core.cores, columns.time[own], columns.write[own]
    last[index] = time  # the last assignment stays
    first[index[::-1]] = time[::-1]
    wrote[index[write][::-1]] = time[write][::-1]
    first = np.where(wrote >= 0, wrote, first)
    where = MemoryRegion(buffer)
    used = [i for i in np.flatnonzero(last >= 0).tolist() if core.storages[i].buffer is where]
    return Lives([core.storages[i] for i in used], first[used], np.maximum(first[used], last[used]))


def runs(size: int, offset: int, pattern: tuple[tuple[int, int], ...]) -> tuple[Array, Array]:
    """Where a pattern's runs of adjacent bytes start and stop, in bytes of its storage (in no order).

    ``size``: bytes of one element.
    """
    start, run = offset * size, size
    outer: list[tuple[int, int]] = []
    dims = []
    for stride, count in pattern:
        if stride < 0:
            start += stride * (count - 1) * size
        if count > 1 and stride:
            dims.append((abs(stride) * size, count))
    for stride, count in sorted(dims):
        if stride <= run and not outer:
            run += stride * (count - 1)
        else:
            outer.append((stride, count))
    starts = np.array([start], np.int64)
    for stride, count in outer:
        starts = (np.arange(count, dtype=np.int64)[:, None] * stride + starts).reshape(-1)
    return starts, starts + run


def region_runs(region: Region) -> tuple[Array, Array]:
    """``runs`` of a region."""
    return runs(itemsize(region), region.offset, region.pattern)


def extent(region: Region) -> tuple[int, int]:
    """First byte and one past the last byte of a region in its storage."""
    size = itemsize(region)
    low = high = region.offset
    for stride, count in region.pattern:
        if stride > 0:
            high += stride * (count - 1)
        else:
            low += stride * (count - 1)
    return low * size, (high + 1) * size


def meet(one: Region, two: Region) -> bool:
    """Whether two regions share a byte (of one storage)."""
    if one.storage != two.storage:
        return False
    starts, stops = union(*region_runs(one))
    low, high = region_runs(two)
    place = np.searchsorted(starts, high) - 1
    return bool(((place >= 0) & (stops[place] > low)).any())


def union(starts: Array, stops: Array) -> tuple[Array, Array]:
    """The same bytes as disjoint runs in rising order."""
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(stops[order])
    if not len(starts):
        return starts, reach
    new = np.concatenate(([True], starts[1:] > reach[:-1]))
    return starts[new], reach[np.concatenate((np.flatnonzero(new)[1:] - 1, [len(starts) - 1]))]


def columns_of(region: Region, row: int) -> tuple[slice, list[tuple[int, int]]]:
    """An on-chip region as partitions of its storage and runs of bytes in each; ``row``: bytes per partition."""
    size = itemsize(region)
    partition, column = divmod(region.offset * size, row)
    stride, count = region.pattern[0]
    step = stride * size // row if count > 1 else 0
    step, count = (step, count) if step > 0 else (1, 1)
    starts, stops = runs(size, column // size, region.pattern[1:])
    return slice(partition, partition + step * (count - 1) + 1, step), list(
        zip(starts.tolist(), stops.tolist(), strict=True)
    )
