"""What must wait for what: instructions that touch the same bytes, and memory that is used again.

A later access of bytes waits for an earlier one where either writes. On chip, a storage for which there is no room
waits until the one dead for the longest time has been used for the last time: memory is handed round, as a compiler
does for loops whose trips it overlaps.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainshed.chip.accesses import Accesses, itemsize, lives, meet
from trainshed.chip.memory import Storage
from trainshed.chip.record import Region
from trainshed.chip.words import engine

Box = tuple[tuple[int, int], ...]
"""Half-open intervals, one per axis of a storage."""


class _Access(NamedTuple):
    time: int
    write: bool
    box: Box
    region: Region


def box(region: Region, storage: Storage) -> Box:
    """A box around a region: partitions and bytes on chip, the indices of a row-major tensor in HBM."""
    size = itemsize(region)
    lengths, steps = _axes(storage)
    if region.indirect:  # its place is found at run time
        return tuple((0, length) for length in lengths)
    place, low = region.offset * size, []
    for step in steps:
        index, place = divmod(place, step)
        low.append(index)
    high = list(low)
    for stride, count in region.pattern:
        reach = stride * size * (count - 1)
        if reach:
            axis = next(i for i, step in enumerate(steps) if abs(stride) * size >= step)
            ends = low if reach < 0 else high
            ends[axis] += int(reach / steps[axis])
    high = [end + 1 for end in high]
    high[-1] += max(size // steps[-1], 1) - 1
    for axis in range(len(steps) - 1, 0, -1):  # what runs over the end of a row takes whole rows
        if high[axis] > lengths[axis] or low[axis] < 0:
            low[axis - 1] += low[axis] // lengths[axis]
            high[axis - 1] += (high[axis] - 1) // lengths[axis]
            low[axis], high[axis] = 0, lengths[axis]
    return tuple(zip(low, high, strict=True))


def _axes(storage: Storage) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Lengths of a storage's axes, and bytes from one index to the next."""
    if storage.buffer.on_chip:
        return (storage.shape[0], storage.row), (storage.row, 1)
    steps, step = [], storage.dtype.itemsize
    for length in reversed(storage.shape):
        steps.append(step)
        step *= length
    return storage.shape, tuple(reversed(steps))


def apart(one: Box, two: Box) -> bool:
    """Whether two boxes share nothing."""
    return any(a[0] >= b[1] or b[0] >= a[1] for a, b in zip(one, two, strict=True))


def inside(one: Box, two: Box) -> bool:
    """Whether the first box lies in the second."""
    return all(b[0] <= a[0] and a[1] <= b[1] for a, b in zip(one, two, strict=True))


def _filled(region: Region, around: Box, storage: Storage) -> bool:
    """Whether a region touches every byte of its box."""
    _, steps = _axes(storage)
    count = 1
    for low, high in around:
        count *= high - low
    touched = itemsize(region)
    for stride, size in region.pattern:
        touched *= size if stride else 1
    return touched == count * steps[-1]


def dependencies(columns: Accesses, capacity: dict[str, int]) -> list[list[int]]:
    """By instruction, the earlier instructions of its core that it waits for.

    ``capacity``: bytes per partition of ``sbuf`` and ``psum``.
    """
    core = columns.core
    waits = [set(item.after) for item in core.instructions]
    cores = core.launch.cores if core.launch is not None else [core]
    storages = {storage.serial: storage for one in cores for storage in one.storages}
    for serial in np.unique(columns.storage[columns.write]).tolist():
        _order_within(columns, storages[serial], waits)
    for buffer, row in capacity.items():
        _hand_round(columns, buffer, row, waits)
    return [sorted(item) for item in waits]


def _order_within(columns: Accesses, storage: Storage, waits: list[set[int]]) -> None:
    """The order of the accesses of one storage. What a later write covers wholly needs no more looking at."""
    found = []
    for i in columns.of(storage.serial).tolist():
        region = columns.regions[i]
        found.append(_Access(int(columns.time[i]), bool(columns.write[i]), box(region, storage), region))
    if all(item.write for item in found) and _are_tiles([item.box for item in found]):
        return
    live: list[_Access] = []
    for item in found:
        covers = item.write and not item.region.indirect and _filled(item.region, item.box, storage)
        kept = []
        for other in live:
            if (item.write or other.write) and other.time != item.time and not apart(item.box, other.box):
                if covers and inside(other.box, item.box):
                    waits[item.time].add(other.time)
                    continue
                if item.region.indirect or other.region.indirect or meet(item.region, other.region):
                    waits[item.time].add(other.time)
            kept.append(other)
        kept.append(item)
        live = kept


def _are_tiles(boxes: list[Box]) -> bool:
    """Whether boxes are different tiles of one grid."""
    sizes = {tuple(high - low for low, high in one) for one in boxes}
    if len(sizes) != 1 or len(set(boxes)) != len(boxes):
        return False
    (size,) = sizes
    return all(low % length == 0 for one in boxes for (low, _), length in zip(one, size, strict=True))


def _hand_round(columns: Accesses, buffer: str, row: int, waits: list[set[int]]) -> None:
    """Let the first write of a storage wait for the last uses of those whose memory it takes."""
    alive = lives(columns, buffer)
    held: list[tuple[int, int, int]] = []
    used = 0
    for place in np.argsort(alive.first, kind="stable").tolist():
        storage, first = alive.storages[place], int(alive.first[place])
        while used + storage.row > row:
            dead = min((item for item in held if item[0] < first), default=None)
            if dead is None:
                break
            held.remove(dead)
            used -= dead[1]
            waits[first].update(_last_uses(columns, dead[2]))
        held.append((int(alive.last[place]), storage.row, storage.serial))
        used += storage.row


def _last_uses(columns: Accesses, serial: int) -> list[int]:
    """The last instruction of each engine that touches a storage, and every DMA that does."""
    items, found, transfers = columns.core.instructions, {}, []
    for i in columns.of(serial).tolist():
        time = int(columns.time[i])
        if items[time].engine is engine.dma:
            transfers.append(time)
        else:
            found[items[time].engine] = time
    return [*found.values(), *transfers]
