"""Addresses of on-chip tensors: automatic allocation by liveness, capacity, and how full the memories get.

A tensor is live from its first write to its last access, in program order. Explicit ``address=`` allocations
keep their place; the others are placed first-fit. A PSUM tensor starts at a bank. Partitions count in quadrants
of 32, because a tile starts at partition 0, 32, 64 or 96 (two quadrants: 0 or 64; more: 0).

Source: the NeuronCore architecture guide ("SBUF partitions", "PSUM"), ``nki.language.tile_size``.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from trainshed.chip.accesses import Accesses, Array, Lives, accesses, lives
from trainshed.chip.core import NeuronCore
from trainshed.chip.errors import Source, violation
from trainshed.chip.findings import Finding

QUADRANT = 32
#: Bytes that automatic SBUF addresses are a multiple of.
SBUF_ALIGN = 4


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One memory of one core: where each used tensor lies, and how full the memory is at each instruction."""

    buffer: str
    lives: Lives
    partition: Array
    """First partition, per tensor."""
    offset: Array
    """First byte within the partition, per tensor."""
    occupied: Array
    """Per instruction: live bytes of the fullest partition (SBUF), live banks (PSUM)."""
    findings: tuple[Finding, ...]

    @property
    def peak(self) -> int:
        """Largest occupation: bytes per partition (SBUF) or banks (PSUM)."""
        return int(self.occupied.max(initial=0))


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The memories of one core after a run."""

    sbuf: Placement
    psum: Placement

    @property
    def addresses(self) -> dict[int, tuple[int, int]]:
        """Partition and byte offset of every tensor in use, by its storage's serial."""
        return {
            storage.serial: (int(partition), int(offset))
            for place in (self.sbuf, self.psum)
            for storage, partition, offset in zip(
                place.lives.storages, place.partition, place.offset, strict=True
            )
        }  # fmt: skip

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.sbuf.findings + self.psum.findings


def allocate(core: NeuronCore, columns: Accesses | None = None) -> Allocation:
    """Addresses for every on-chip tensor of a finished core.

    Raises ``sbuf-capacity`` or ``psum-capacity`` where what is live at one instruction exceeds the memory.
    """
    columns = columns or accesses(core)
    target = core.target
    return Allocation(
        sbuf=_place(core, lives(columns, "sbuf"), "sbuf", target.sbuf_row, SBUF_ALIGN),
        psum=_place(core, lives(columns, "psum"), "psum", target.psum_row, target.psum_bank),
    )


@dataclass
class _Items:
    """The tensors of one memory as columns; sizes in bytes per partition, places in quadrants and bytes."""

    first: Array
    last: Array
    size: Array
    """Rounded up to banks for automatic PSUM tensors."""
    quadrants: Array
    explicit: Array
    quadrant: Array
    offset: Array
    """-1: no place yet."""
    capacity: int
    unit: int
    quadrant_count: int

    def __len__(self) -> int:
        return len(self.first)


def _place(core: NeuronCore, life: Lives, buffer: str, capacity: int, unit: int) -> Placement:
    items = _items(core, life, capacity, unit)
    findings: list[Finding] = []
    total = len(core.instructions)
    if not items.explicit.all():
        _check_capacity(core, life, items, buffer, total)
        if not _first_fit(items):
            findings += _retry(core, life, items, buffer)
    occupied = _banks(items, total) if buffer == "psum" else _occupied(items, total)
    return Placement(
        buffer=buffer, lives=life, offset=items.offset, occupied=occupied, findings=tuple(findings),
        partition=np.array(
            [s.address[0] if s.address else q * QUADRANT for s, q in zip(life.storages, items.quadrant, strict=True)],
            np.int64,
        ),
    )  # fmt: skip


def _items(core: NeuronCore, life: Lives, capacity: int, unit: int) -> _Items:
    storages = life.storages
    explicit = np.array([s.address is not None for s in storages], bool)
    partition = np.array([s.address[0] if s.address else 0 for s in storages], np.int64)
    size = np.array([s.row for s in storages], np.int64)
    partitions = np.array([s.shape[0] for s in storages], np.int64)
    quadrant = partition // QUADRANT
    return _Items(
        first=life.first, last=life.last, size=np.where(explicit, size, -(-size // unit) * unit),
        quadrants=-(-(partition + partitions) // QUADRANT) - quadrant, explicit=explicit, quadrant=quadrant,
        offset=np.array([s.address[1] if s.address else -1 for s in storages], np.int64),
        capacity=capacity, unit=unit, quadrant_count=core.target.partitions // QUADRANT,
    )  # fmt: skip


# --- how full -------------------------------------------------------------------------------------------------


def _timeline(first: Array, last: Array, amount: Array, total: int) -> Array:
    """Sum of ``amount`` over what is live, per instruction."""
    steps = np.bincount(first, amount, total + 1)[: total + 1] - np.bincount(last + 1, amount, total + 1)[: total + 1]
    return np.cumsum(steps)[:total].astype(np.int64)


def _occupied(items: _Items, total: int) -> Array:
    """Live bytes of the fullest partition, per instruction; tensors at one explicit place count once."""
    first, last, size, quadrant, quadrants, offset = _distinct(items)
    peak = np.zeros(total, np.int64)
    for q in range(items.quadrant_count):
        here = (quadrant <= q) & (q < quadrant + quadrants)
        if here.any():
            highest = int((offset[here] + size[here]).max())
            peak = np.maximum(peak, np.minimum(_timeline(first[here], last[here], size[here], total), highest))
    return peak


def _distinct(items: _Items) -> tuple[Array, ...]:
    """Tensors with those of the same explicit place merged while their lives overlap."""
    columns = (items.first, items.last, items.size, items.quadrant, items.quadrants, items.offset)
    order = np.lexsort((items.first, items.size, items.quadrants, items.quadrant, items.offset))
    first, last, size, quadrant, quadrants, offset = (column[order] for column in columns)
    key = np.stack((offset, quadrant, quadrants, size))
    group = np.concatenate(([0], np.cumsum((key[:, 1:] != key[:, :-1]).any(0)))) if len(order) else order
    # The latest end so far within a group, by lifting each group above the one before.
    lift = group * (int(last.max(initial=0)) + 2)
    reach = np.maximum.accumulate(last + lift) - lift
    new = np.ones(len(order), bool)
    new[1:] = (group[1:] != group[:-1]) | (first[1:] > reach[:-1])
    ends = np.concatenate((np.flatnonzero(new)[1:] - 1, [len(order) - 1])) if len(order) else order
    return first[new], reach[ends], size[new], quadrant[new], quadrants[new], offset[new]


def _banks(items: _Items, total: int) -> Array:
    """Live PSUM banks, per instruction."""
    banks = np.zeros(total, np.int64)
    low, high = items.offset // items.unit, -(-(items.offset + items.size) // items.unit)
    for bank in range(int(high.max(initial=0))):
        here = (low <= bank) & (bank < high)
        banks += _timeline(items.first[here], items.last[here], np.ones(int(here.sum()), np.int64), total) > 0
    return banks


def _check_capacity(core: NeuronCore, life: Lives, items: _Items, buffer: str, total: int) -> None:
    """The error where live bytes exceed the memory whatever the addresses.

    Partitions are counted in quadrants, so that narrow tensors may lie side by side in this bound.
    """
    quadrants, auto = items.quadrants, ~items.explicit
    demand = _timeline(items.first, items.last, items.size * quadrants, total)
    limit = items.capacity * items.quadrant_count
    if demand.max(initial=0) <= limit:
        return
    needed = _timeline(items.first[auto], items.last[auto], (items.size * quadrants)[auto], total)
    for moment in np.argsort(-demand, kind="stable")[:64]:
        if demand[moment] <= limit:
            return
        live = (items.first <= moment) & (moment <= items.last)
        if needed[moment] + _union(items, live & items.explicit) > limit:
            raise _overflow(core, life, items, buffer, int(moment), live)


def _union(items: _Items, chosen: Array) -> int:
    """Quadrant-bytes that explicit tensors cover together."""
    total = 0
    for q in range(items.quadrant_count):
        here = chosen & (items.quadrant <= q) & (q < items.quadrant + items.quadrants)
        end = 0
        for start, stop in sorted(
            zip(items.offset[here].tolist(), (items.offset + items.size)[here].tolist(), strict=True)
        ):
            total += max(0, stop - max(start, end))
            end = max(end, stop)
    return total


def _overflow(core: NeuronCore, life: Lives, items: _Items, buffer: str, moment: int, live: Array) -> Exception:
    """``sbuf-capacity`` or ``psum-capacity``, with the largest of the live tensors."""
    weight = items.size * items.quadrants
    largest = sorted(np.flatnonzero(live).tolist(), key=lambda i: (-int(weight[i]), i))
    seen: dict[str, list[int]] = {}
    for i in largest:
        text = f"{life.storages[i].dtype}{list(life.storages[i].shape)} of {life.storages[i].source}"
        seen.setdefault(text, []).append(int(items.size[i]))
    names = [f"{len(sizes)} x {text} ({sum(sizes)} B)" for text, sizes in list(seen.items())[:3]]
    used = -(-int(weight[live].sum()) // items.quadrant_count)
    unit, have = ("bytes per partition", items.capacity)
    if buffer == "psum":
        unit, used, have = "banks", -(-used // items.unit), items.capacity // items.unit
    instruction = core.instructions[moment]
    return violation(
        instruction.opcode, "", f"{buffer.upper()} {unit} of {int(live.sum())} tensors live here", value=used,
        expected=f"at most {have}; largest: {'; '.join(names)}", rule=f"{buffer}-capacity", at=instruction.source,
    )  # fmt: skip


# --- placing --------------------------------------------------------------------------------------------------


class _Blocked:
    """Explicit tensors by time: which bytes of all partitions they hold while another tensor lives."""

    def __init__(self, items: _Items) -> None:
        chosen = np.flatnonzero(items.explicit)
        chosen = chosen[np.argsort(items.first[chosen], kind="stable")]
        self.first, self.last = items.first[chosen], items.last[chosen]
        self.low = items.offset[chosen]
        self.high = self.low + items.size[chosen]
        self.reach = np.maximum.accumulate(self.last) if len(chosen) else self.last

    def during(self, first: int, last: int) -> list[tuple[int, int]]:
        low = int(np.searchsorted(self.reach, first))
        high = int(np.searchsorted(self.first, last, "right"))
        if low >= high:
            return []
        alive = self.last[low:high] >= first
        spans = np.stack((self.low[low:high][alive], self.high[low:high][alive]), 1)
        return [(a, b) for a, b in np.unique(spans, axis=0).tolist()]


def _first_fit(items: _Items) -> bool:
    """Places in order of first write, all partitions wide; whether all fit. What does not fit lies above the memory."""
    blocked = _Blocked(items)
    none_blocked = not len(blocked.first)
    free: list[tuple[int, int]] = [(0, 1 << 62)]
    ends: list[tuple[int, int, int]] = []
    auto = np.flatnonzero(~items.explicit)
    order = auto[np.lexsort((-items.size[auto], items.first[auto]))]
    fits = True
    offsets = items.offset
    columns = zip(
        order.tolist(), items.first[order].tolist(), items.last[order].tolist(), items.size[order].tolist(), strict=True
    )
    for i, first, last, size in columns:
        while ends and ends[0][0] < first:
            _, low, high = heapq.heappop(ends)
            _release(free, low, high)
        if none_blocked:
            k, low = _hole(free, size)
        else:
            k, low = _hole_between(free, size, blocked.during(first, last), items.unit)
        high = low + size
        start, stop = free[k]
        free[k : k + 1] = [span for span in ((start, low), (high, stop)) if span[0] < span[1]]
        heapq.heappush(ends, (last, low, high))
        offsets[i] = low
        fits = fits and high <= items.capacity
    return fits


def _hole(free: list[tuple[int, int]], size: int) -> tuple[int, int]:
    """The first hole of ``size`` bytes: its index and where it starts."""
    for k, (start, stop) in enumerate(free):
        if stop - start >= size:
            return k, start
    raise AssertionError("the last hole has no end")


def _hole_between(free: list[tuple[int, int]], size: int, blocked: list[tuple[int, int]], unit: int) -> tuple[int, int]:
    """``_hole`` that avoids blocked spans (sorted by start)."""
    for k, (start, stop) in enumerate(free):
        low = start
        for a, b in blocked:
            if a >= low + size:
                break
            if b > low:
                low = -(-b // unit) * unit
        if low + size <= stop:
            return k, low
    raise AssertionError("the last hole has no end")


def _release(free: list[tuple[int, int]], low: int, high: int) -> None:
    """Give a span back, merged with its neighbours."""
    k = bisect_left(free, (low, high))
    if k < len(free) and free[k][0] == high:
        high = free.pop(k)[1]
    if k and free[k - 1][1] == low:
        k -= 1
        low = free.pop(k)[0]
    free.insert(k, (low, high))


#: Better orders are tried up to this many tensors: each costs a pass over all placed ones.
_RETRY_LIMIT = 20_000


def _retry(core: NeuronCore, life: Lives, items: _Items, buffer: str) -> list[Finding]:
    """Other orders, and narrow tensors side by side, once plain first-fit has failed; a finding when all fail."""
    plain = items.offset.copy(), items.quadrant.copy()
    worst = int(np.argmax(np.where(items.explicit, 0, items.offset + items.size)))
    auto = np.flatnonzero(~items.explicit)
    if len(auto) <= _RETRY_LIMIT:
        lifetime = items.last - items.first
        for keys in ((items.first, -items.size), (items.first, -lifetime), (-items.size, items.first)):
            order = auto[np.lexsort(tuple(key[auto] for key in keys))]
            if _pack(items, order):
                return []
    items.offset, items.quadrant = plain
    storage = life.storages[worst]
    at: Source = storage.source or core.instructions[int(items.first[worst])].source
    need, have = int((items.offset + items.size)[~items.explicit].max()), items.capacity
    what = (
        f"what is live fits {buffer.upper()}, but first-fit places it up to byte {need} of {have} per partition: "
        "holes between live tensors; allocate long-lived tensors first or give addresses"
    )
    return [Finding(f"{buffer}-fragmentation", what, at)]


def _pack(items: _Items, order: Array) -> bool:
    """First-fit in any order over quadrants and bytes; False as soon as one tensor has no place."""
    n = len(order)
    placed = np.concatenate((np.flatnonzero(items.explicit), order))
    base = len(placed) - n
    first, last = items.first[placed], items.last[placed]
    low, quadrant = items.offset[placed], items.quadrant[placed].copy()
    width, size = items.quadrants[placed], items.size[placed]
    high = low + size
    for k in range(base, base + n):
        together = np.flatnonzero((first[:k] <= last[k]) & (last[:k] >= first[k]))
        wide = int(width[k])
        best: tuple[int, int] | None = None
        for q in _starts(wide, items.quadrant_count):
            beside = together[(quadrant[together] < q + wide) & (quadrant[together] + width[together] > q)]
            at = _gap(low[beside], high[beside], int(size[k]), items.unit)
            if at + size[k] <= items.capacity and (best is None or at < best[0]):
                best = at, q
        if best is None:
            return False
        low[k], quadrant[k] = best
        high[k] = low[k] + size[k]
    items.offset[order], items.quadrant[order] = low[base:], quadrant[base:]
    return True


def _starts(quadrants: int, count: int) -> range:
    """Legal first quadrants of a tile."""
    if quadrants == 1:
        return range(count)
    return range(0, count - 1, 2) if quadrants == 2 else range(1)


def _gap(low: Array, high: Array, size: int, unit: int) -> int:
    """The lowest multiple of ``unit`` with ``size`` free bytes among taken spans."""
    if not len(low):
        return 0
    order = np.argsort(low, kind="stable")
    starts = low[order]
    ends = np.concatenate(([0], np.maximum.accumulate(high[order])))
    ends = -(-ends // unit) * unit
    room = np.append(starts, np.int64(1) << 62) - ends
    return int(ends[int(np.argmax(room >= size))])
