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
from trainshed.chip.record import Region
from trainshed.chip.timing.kinds import Array, Kinds
from trainshed.chip.words import engine

Box = tuple[tuple[int, int], ...]
"""Half-open intervals, one per axis of a storage."""


class Edges(NamedTuple):
    """``later`` waits for ``earlier``, pair by pair, ordered by ``later``."""

    later: Array
    earlier: Array


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
        time = self._columns.time[self._order]
        again = np.diff(time, prepend=-1) == 0
        codes: list[int] = ((self._columns.parts * 2 + write)[self._order] * 2 + again).tolist()
        return codes

    def _ordered(self, places: Array, write: Array, storage: Storage) -> Array:
        """Pairs of places in a history. What a later write covers wholly needs no more looking at."""
        columns = self._columns
        _, first, parts = np.unique(columns.parts[places], return_index=True, return_inverse=True)
        regions = [columns.regions[i] for i in places[first].tolist()]
        if write.all() and len(regions) == len(places) and _are_tiles(regions, storage):
            return np.zeros((0, 2), np.int64)
        live = _Live(regions, storage)
        later: list[int] = []
        earlier: list[int] = []
        for place, (part, writes) in enumerate(zip(parts.tolist(), write.tolist(), strict=True)):
            found = live.add(place, part, writes)
            earlier += found
            later += [place] * len(found)
        pairs = np.array((later, earlier), np.int64).T
        times = columns.time[places]
        others: Array = pairs[times[pairs[:, 0]] != times[pairs[:, 1]]]
        return others


#: Parts that are compared with all others at once.
_AT_ONCE = 64


class _Live:
    """The accesses of a history that later ones may have to wait for, by the parts of the storage that they touch."""

    def __init__(self, regions: list[Region], storage: Storage) -> None:
        """``regions``: one of each part."""
        self._regions = regions
        boxes = [box(region, storage) for region in regions]
        self._low, self._high = np.moveaxis(np.array(boxes, np.int64), 2, 0)
        self._indirect = np.array([region.indirect is not None for region in regions], bool)
        self._filled = ~self._indirect & [
            _filled(region, around) for region, around in zip(regions, boxes, strict=True)
        ]
        self._near: list[list[tuple[int, bool]] | None] = [None] * len(regions)
        self._writes: list[list[int]] = [[] for _ in regions]
        self._reads: list[list[int]] = [[] for _ in regions]
        self._met: dict[object, bool] = {}
        self._again: dict[int, list[int]] = {}
        """By the part that was read since the last write: the writes that it waits for."""

    def add(self, place: int, part: int, write: bool) -> list[int]:
        """The places that an access waits for; those that it covers wholly are needed no more."""
        if not write:
            self._reads[part].append(place)
            known = self._again.get(part)
            if known is not None:
                return known
        near = self._near[part]
        if near is None:
            self._look_around(part)
            near = self._near[part] or []
        found: list[int] = []
        for other, covered in near:
            writes, reads = self._writes[other], self._reads[other]
            if not (writes or (write and reads)) or not (covered or self._meet(part, other)):
                continue
            found += writes
            if write:
                found += reads
                if covered:
                    self._writes[other], self._reads[other] = [], []
        if write:
            self._writes[part].append(place)
            self._again.clear()
        else:
            self._again[part] = found
        return found

    def _look_around(self, part: int) -> None:
        """The parts whose boxes meet this one's, and whether this one covers each; for some parts at once."""
        some = slice(part, part + _AT_ONCE)
        low, high = self._low[some, None], self._high[some, None]
        meets = ((self._low < high) & (low < self._high)).all(axis=2)
        inside = ((self._low >= low) & (self._high <= high)).all(axis=2) & self._filled[some, None]
        for place, near in enumerate(meets, part):
            found = np.flatnonzero(near)
            covered = inside[place - part][found] | ((found == place) & ~self._indirect[place])
            self._near[place] = list(zip(found.tolist(), covered.tolist(), strict=True))

    def _meet(self, one: int, two: int) -> bool:
        """Whether parts whose boxes meet share a byte: a matter of their patterns and of how far apart they are."""
        first, second = self._regions[one], self._regions[two]
        if first.indirect or second.indirect or (self._filled[one] and self._filled[two]):
            return True
        size, other = itemsize(first), itemsize(second)
        key = second.offset * other - first.offset * size, size, first.pattern, other, second.pattern
        known = self._met.get(key)
        if known is None:
            known = self._met[key] = meet(first, second)
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
    engines = [item.engine for item in columns.core.instructions]
    firsts, lasts = alive.first.tolist(), alive.last.tolist()
    for place in np.argsort(alive.first, kind="stable").tolist():
        storage, first = alive.storages[place], firsts[place]
        while used + storage.row > row and held and held[0][0] < first:
            _, size, serial = heapq.heappop(held)
            used -= size
            begin, end = histories.spans[serial]
            found += [(first, last) for last in _last_uses(histories.times[begin:end], engines)]
        heapq.heappush(held, (lasts[place], storage.row, storage.serial))
        used += storage.row
    return np.array(found, np.int64).reshape(-1, 2)


def _last_uses(times: list[int], engines: Sequence[engine]) -> list[int]:
    """The last instruction of each engine that touches a storage, and every DMA that does."""
    last: dict[object, int] = {}
    dma = engine.dma
    for time in times:
        on = engines[time]
        last[time if on is dma else -id(on)] = time
    return list(last.values())
