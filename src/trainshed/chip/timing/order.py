"""What must wait for what: instructions that touch the same bytes, and memory that is used again.

A later access of bytes waits for an earlier one where either writes. On chip, a storage for which there is no room
waits until the one dead for the longest time has been used for the last time: memory is handed round, as a compiler
does for loops whose trips it overlaps.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from trainshed.chip.accesses import Accesses, itemsize, lives, meet
from trainshed.chip.memory import Storage
from trainshed.chip.record import Instruction, Region
from trainshed.chip.timing.kinds import Array, Kinds
from trainshed.chip.words import engine

Box = tuple[tuple[int, int], ...]
"""Half-open intervals, one per axis of a storage."""


class Edges(NamedTuple):
    """``later`` waits for ``earlier``, pair by pair, ordered by ``later``."""

    later: Array
    earlier: Array


class _Access(NamedTuple):
    place: int
    time: int
    write: bool
    box: Box
    filled: bool
    """It touches every byte of its box."""
    begin: int
    """Byte of its storage."""
    form: int
    """A number per pattern and size of elements."""
    region: Region


def box(region: Region, storage: Storage) -> Box:
    """A box around a region: partitions and bytes on chip, in HBM the indices of a row-major tensor and bytes."""
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
        ends, sign, left = (low, -1, -stride * size) if stride < 0 else (high, 1, stride * size)
        for axis, step in enumerate(steps):  # a stride of some rows and some columns reaches along both
            each, left = divmod(left, step)
            ends[axis] += sign * each * (count - 1)
    high = [end + 1 for end in high]
    high[-1] += size - 1
    for axis in range(len(steps) - 1, 0, -1):  # what runs over the end of a row takes whole rows
        if high[axis] > lengths[axis] or low[axis] < 0:
            low[axis - 1] += low[axis] // lengths[axis]
            high[axis - 1] += (high[axis] - 1) // lengths[axis]
            low[axis], high[axis] = 0, lengths[axis]
    return tuple(zip(low, high, strict=True))


def _axes(storage: Storage) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Lengths of a storage's axes (of the last in bytes), and bytes from one index to the next."""
    if storage.buffer.on_chip:
        return (storage.shape[0], storage.row), (storage.row, 1)
    lengths = [*storage.shape[:-1], storage.shape[-1] * storage.dtype.itemsize]
    steps, step = [1], lengths[-1]
    for length in reversed(lengths[:-1]):
        steps.append(step)
        step *= length
    return tuple(lengths), tuple(reversed(steps))


def apart(one: Box, two: Box) -> bool:
    """Whether two boxes share nothing."""
    for a, b in zip(one, two):  # noqa: B905, SIM110 - asked for every two accesses; any() takes longer
        if a[0] >= b[1] or b[0] >= a[1]:
            return True
    return False


def inside(one: Box, two: Box) -> bool:
    """Whether the first box lies in the second."""
    for a, b in zip(one, two):  # noqa: B905, SIM110 - as above
        if a[0] < b[0] or b[1] < a[1]:
            return False
    return True


def _filled(region: Region, around: Box) -> bool:
    """Whether a region touches every byte of its box."""
    count = 1
    for low, high in around:
        count *= high - low
    touched = itemsize(region)
    for stride, size in region.pattern:
        touched *= size if stride else 1
    return touched == count


def dependencies(columns: Accesses, capacity: dict[str, int]) -> Edges:
    """What every instruction of a core waits for: data, memory that is used again, and what ``depends_on`` says.

    ``capacity``: bytes per partition of ``sbuf`` and ``psum``.
    """
    asked = [(i, j) for i, item in enumerate(columns.core.instructions) if item.after for j in item.after]
    histories = _Histories(columns)
    found = [np.array(asked, np.int64).reshape(-1, 2), histories.edges()]
    found += [_hand_round(columns, histories, buffer, row) for buffer, row in capacity.items()]
    pairs, count = np.concatenate(found), len(columns.core.instructions) or 1
    later, earlier = np.divmod(np.unique(pairs[:, 0] * count + pairs[:, 1]), count)
    return Edges(later, earlier)


def needed(edges: Edges, kinds: Kinds) -> Edges:
    """The edges without those that a queue's order or an earlier wait of the queue implies, and those of DMA queues."""
    queue, order = kinds.queue(), kinds.in_order()
    rings = _rings(kinds)
    later = np.concatenate((edges.later, rings[:, 0]))
    earlier = np.concatenate((edges.earlier, rings[:, 1]))
    apart = (queue[later] != queue[earlier]) | ~order[earlier]
    later, earlier = later[apart], earlier[apart]
    place = np.lexsort((later, earlier, queue[later]))
    later, earlier = later[place], earlier[place]
    first = np.ones(len(later), bool)
    first[1:] = (earlier[1:] != earlier[:-1]) | (queue[later[1:]] != queue[later[:-1]])
    later, earlier = later[first], earlier[first]
    place = np.lexsort((earlier, later))
    return Edges(later[place], earlier[place])


def _rings(kinds: Kinds) -> Array:
    """A DMA takes the queue of the one so many before it."""
    queue = kinds.queue()
    moved = np.array([kind.descriptors > 0 for kind in kinds.kinds], bool)[kinds.of]
    found = [np.zeros((0, 2), np.int64)]
    for one in np.unique(queue[moved]).tolist():
        at = np.flatnonzero(moved & (queue == one))
        found.append(np.stack((at[kinds.dma_queues :], at[: -kinds.dma_queues]), 1))
    return np.concatenate(found)


class _Histories:
    """The accesses of storages, one storage after another. Tiles of a loop have one history, ordered once."""

    def __init__(self, columns: Accesses) -> None:
        self._columns = columns
        self._order = np.argsort(columns.storage, kind="stable")
        storage = columns.storage[self._order]
        first = np.flatnonzero(np.diff(storage, prepend=-1))
        self.times: list[int] = columns.time[self._order].tolist()
        stops = np.append(first, len(storage))[1:].tolist()
        self.spans = dict(zip(storage[first].tolist(), zip(first.tolist(), stops, strict=True), strict=True))
        """Places of a storage's accesses in ``times``, by its serial."""

    def edges(self) -> Array:
        """Pairs (later, earlier) of instructions."""
        columns, core = self._columns, self._columns.core
        cores = core.launch.cores if core.launch is not None else [core]
        storages = {storage.serial: storage for one in cores for storage in one.storages}
        # A barrier stands for what another core writes.
        barrier = np.array([item.opcode == "core_barrier" for item in core.instructions], bool)
        write = columns.write | barrier[columns.time]
        like: dict[tuple[object, ...], list[int]] = {}
        codes = self._codes(write)
        for serial in np.unique(columns.storage[write]).tolist():
            first, stop = self.spans[serial]
            if stop - first > 1:
                one = storages[serial]
                like.setdefault((one.buffer, one.shape, one.dtype, *codes[first:stop]), []).append(first)
        found = [np.zeros((0, 2), np.int64)]
        times = columns.time[self._order]
        for key, firsts in like.items():
            places = self._order[firsts[0] : firsts[0] + len(key) - 3]
            local = self._ordered(places, write[places], storages[int(columns.storage[places[0]])])
            found.append(times[np.array(firsts)[:, None, None] + local].reshape(-1, 2))
        return np.concatenate(found)

    def _codes(self, write: Array) -> list[int]:
        """A number per access: what part of its storage, read or written, by the same instruction as the one before."""
        known: dict[tuple[object, ...], int] = {}
        regions = self._columns.regions
        part = np.fromiter((known.setdefault(region[2:], len(known)) for region in regions), np.int64, len(regions))
        time = self._columns.time[self._order]
        again = np.diff(time, prepend=-1) == 0
        codes: list[int] = ((part * 2 + write)[self._order] * 2 + again).tolist()
        return codes

    def _ordered(self, places: Array, write: Array, storage: Storage) -> Array:
        """Pairs of places in a history. What a later write covers wholly needs no more looking at."""
        columns = self._columns
        regions = [columns.regions[i] for i in places.tolist()]
        if write.all() and _are_tiles(regions, storage):
            return np.zeros((0, 2), np.int64)
        boxes: dict[object, tuple[Box, bool, int, int]] = {}
        forms: dict[object, int] = {}
        found: list[tuple[int, int]] = []
        live = _Live()
        for place, region in enumerate(regions):
            known = boxes.get(region[2:])
            if known is None:
                around = box(region, storage)
                size = itemsize(region)
                form = forms.setdefault((size, region.pattern), len(forms))
                filled = not region.indirect and _filled(region, around)
                known = boxes[region[2:]] = (around, filled, region.offset * size, form)
            found += live.add(_Access(place, int(columns.time[places[place]]), bool(write[place]), *known, region))
        return np.array(found, np.int64).reshape(-1, 2)


class _Live:
    """The accesses of a history that later ones may have to wait for."""

    def __init__(self) -> None:
        self._writes: list[_Access] = []
        self._reads: list[_Access] = []
        self._met: dict[object, bool] = {}
        self._again: dict[object, list[int]] = {}
        """By the part that was read since the last write: the writes that it waits for."""

    def add(self, item: _Access) -> list[tuple[int, int]]:
        """What an access waits for; one that a write covers wholly needs no more looking at."""
        if not item.write:
            self._reads.append(item)
            known = self._again.get(item.region[2:])
            if known is not None:
                return [(item.place, other) for other in known]
        found: list[tuple[int, int]] = []
        self._writes = self._left(item, self._writes, found)
        if item.write:
            self._reads = self._left(item, self._reads, found)
            self._writes.append(item)
            self._again.clear()
        else:
            self._again[item.region[2:]] = [other for _, other in found]
        return found

    def _left(self, item: _Access, live: list[_Access], found: list[tuple[int, int]]) -> list[_Access]:
        kept = []
        for other in live:
            if other.time != item.time and not apart(item.box, other.box):
                if item.write and item.filled and inside(other.box, item.box):
                    found.append((item.place, other.place))
                    continue
                if self._meet(item, other):
                    found.append((item.place, other.place))
            kept.append(other)
        return kept

    def _meet(self, one: _Access, two: _Access) -> bool:
        """Whether accesses whose boxes meet share a byte: a matter of their patterns and of how far apart they are."""
        if one.region.indirect or two.region.indirect or (one.filled and two.filled):
            return True
        key = (two.begin - one.begin, one.form, two.form)
        known = self._met.get(key)
        if known is None:
            known = self._met[key] = meet(one.region, two.region)
        return known


def _are_tiles(regions: list[Region], storage: Storage) -> bool:
    """Whether regions are different tiles of one grid."""
    first = regions[0]
    if any(region[2] != first[2] or region[4] != first[4] or region[5] for region in regions):
        return False
    sizes = tuple(high - low for low, high in box(first, storage))
    lengths, steps = _axes(storage)
    at = np.array([region.offset for region in regions], np.int64) * itemsize(first)
    for size, length, step in zip(sizes, lengths, steps, strict=True):
        index = at // step
        at = at % step
        if (index % size).any() or (index + size > length).any():
            return False
    return len({region.offset for region in regions}) == len(regions)


def _hand_round(columns: Accesses, histories: _Histories, buffer: str, row: int) -> Array:
    """The first write of a storage waits for the last uses of those whose memory it takes."""
    alive = lives(columns, buffer)
    held: list[tuple[int, int, int]] = []
    found: list[tuple[int, int]] = []
    used = 0
    items = columns.core.instructions
    firsts, lasts = alive.first.tolist(), alive.last.tolist()
    for place in np.argsort(alive.first, kind="stable").tolist():
        storage, first = alive.storages[place], firsts[place]
        while used + storage.row > row and held and held[0][0] < first:
            _, size, serial = heapq.heappop(held)
            used -= size
            begin, end = histories.spans[serial]
            found += [(first, last) for last in _last_uses(histories.times[begin:end], items)]
        heapq.heappush(held, (lasts[place], storage.row, storage.serial))
        used += storage.row
    return np.array(found, np.int64).reshape(-1, 2)


def _last_uses(times: list[int], items: Sequence[Instruction]) -> list[int]:
    """The last instruction of each engine that touches a storage, and every DMA that does."""
    last: dict[object, int] = {}
    dma = engine.dma
    for time in times:
        on = items[time].engine
        last[time if on is dma else (id(on),)] = time
    return list(last.values())
