"""Numbers that a run without values still knows: what copies alone have brought from an argument of the kernel.

Trip counts and indices are loaded into registers while a kernel runs. Where nothing is computed, such a number is
followed back through the records to the argument that it is a copy of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from trainshed.chip.accesses import extent, itemsize
from trainshed.chip.core import NeuronCore
from trainshed.chip.record import Instruction, Region

#: Instructions that hand elements on as they are, in the order of their operands' patterns.
_COPIES = frozenset({"dma_copy", "tensor_copy"})


def known(core: NeuronCore, where: Region) -> bytes | None:
    """The bytes of a region of one element; None where anything but copies made them, or another core wrote there."""
    for item in reversed(core.instructions):
        written = _touching(item.writes, where)
        if written is not None:
            source = _source(item, written, where)
            if source is None:
                return None
            where = source
    cores = [core] if core.launch is None else core.launch.cores
    others = (item for one in cores if one.index != core.index for item in one.instructions)
    if any(_touching(item.writes, where) for item in others):
        return None
    storage = cores[where.storage % core.cores].storages[where.storage // core.cores]
    if not storage.argument or storage.scale != 1:
        return None
    start, stop = extent(where)
    return bytes(storage.data.view(np.uint8).reshape(-1)[start:stop])


def _touching(writes: Iterable[Region], where: Region) -> Region | None:
    """The write that touches the element, if any does (as far as is known where its place is not)."""
    for written in writes:
        if written.storage != where.storage:
            continue
        (low, high), (start, stop) = extent(written), extent(where)
        if written.indirect or (low < stop and start < high and _place(written, where) is not None):
            return written
    return None


def _place(written: Region, where: Region) -> int | None:
    """The number of an element in the order of a pattern; None: it is not in it."""
    if itemsize(written) != itemsize(where):
        return 0  # a part of it, or it a part
    offsets = np.array([written.offset])
    for stride, count in written.pattern:
        offsets = (offsets[:, None] + stride * np.arange(count)).reshape(-1)
    found = np.flatnonzero(offsets == where.offset)
    return int(found[-1]) if found.size else None


def _source(item: Instruction, written: Region, where: Region) -> Region | None:
    """The element that an instruction copied to ``where``; None if that is not what it did."""
    if item.opcode not in _COPIES or len(item.reads) != 1 or len(item.writes) != 1:
        return None
    (read,) = item.reads
    sizes = [math.prod(region.shape) for region in (read, written)]
    if read.indirect or written.indirect or read.dtype != written.dtype or sizes[0] != sizes[1]:
        return None
    place = _place(written, where)
    if place is None or itemsize(written) != itemsize(where):
        return None
    offset = read.offset
    for stride, count in reversed(read.pattern):
        place, index = divmod(place, count)
        offset += stride * index
    return Region(read.storage, read.buffer, where.dtype, offset, ((1, 1),))
