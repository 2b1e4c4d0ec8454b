"""Races between the cores of a logical NeuronCore.

Within a core, NKI preserves program order between instructions that touch the same bytes. Between cores, only
``core_barrier`` and ``sendrecv`` order accesses to shared HBM.

Sources: the NKI language guide (sequential programming model), ``nki.isa.core_barrier``, ``nki.isa.sendrecv``,
"Logical NeuronCores".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainshed.chip.accesses import Accesses, Array, extent, itemsize, region_runs, runs, union
from trainshed.chip.core import NeuronCore
from trainshed.chip.errors import NkiValidationError, violation
from trainshed.chip.findings import Finding
from trainshed.chip.memory import Storage
from trainshed.chip.overlap import title
from trainshed.chip.record import Instruction, Region


@dataclass(frozen=True)
class _Sync:
    """One point where a core waits for others: ``key`` is equal on the cores that meet, ``after`` whom it waits for."""

    time: int
    key: tuple[Any, ...]
    after: tuple[int, ...]
    data: int | None
    """Serial of the shared tensor that a barrier names."""


def _syncs(core: NeuronCore) -> list[_Sync]:
    found: list[_Sync] = []
    for time, instruction in enumerate(core.instructions):
        said = instruction.attributes
        if instruction.opcode == "core_barrier":
            others = tuple(c for c in range(core.cores) if c != core.index)
            found.append(_Sync(time, ("barrier", said["barrier"]), others, instruction.reads[0].storage))
        elif instruction.opcode == "sendrecv":
            origin = () if said["receive_from"] == core.index else (said["receive_from"],)
            found.append(_Sync(time, ("pipe", said["pipe"], said["turn"]), origin, None))
    return found


@dataclass(frozen=True)
class Order:
    """Vector clocks of two or more cores: what each is sure of after each of its synchronisations.

    ``known[c][d][k]``: the accesses of core ``d`` at instructions before this number precede all those of core
    ``c`` after its first ``k`` synchronisations.
    """

    times: list[Array]
    known: list[list[Array]]

    def segment(self, core: int, time: Array) -> Array:
        """How many synchronisations of a core precede its instructions."""
        found: Array = np.searchsorted(self.times[core], time)
        return found


def order(cores: Sequence[NeuronCore], syncs: Sequence[Sequence[_Sync]]) -> Order:
    """Vector clocks from what happened at barriers and exchanges."""
    count = len(cores)
    where = [{sync.key: k for k, sync in enumerate(listed)} for listed in syncs]
    clocks: list[list[list[int]]] = [[[0] * count] for _ in range(count)]
    done = [0] * count
    progress = True
    while progress:
        progress = False
        for c in range(count):
            while done[c] < len(syncs[c]):
                sync = syncs[c][done[c]]
                peers = [(d, where[d][sync.key]) for d in sync.after if sync.key in where[d]]
                if any(done[d] < k for d, k in peers):
                    break
                clock = list(clocks[c][done[c]])
                for d, k in peers:
                    theirs = list(clocks[d][k])
                    theirs[d] = syncs[d][k].time
                    clock = [max(a, b) for a, b in zip(clock, theirs, strict=True)]
                clocks[c].append(clock)
                done[c] += 1
                progress = True
    return Order(
        [np.array([sync.time for sync in listed[: done[c]]], np.int64) for c, listed in enumerate(syncs)],
        [[np.array([clock[d] for clock in clocks[c]], np.int64) for d in range(count)] for c in range(count)],
    )


@dataclass(frozen=True)
class Race:
    """Two accesses to the same bytes of shared HBM by two cores, nothing ordering them; at least one writes."""

    storage: Storage
    first: Instruction
    second: Instruction
    both_write: bool
    same: bool
    """Both cores write the same region at the same line: harmless where the values are equal."""
    scatter: bool = False
    """Both scatter rows by index: kernels send all padding to one row that nobody reads."""


def races(cores: Sequence[NeuronCore], columns: Sequence[Accesses]) -> tuple[list[Race], list[Finding]]:
    """Races between the cores of a launch, the earliest per tensor, and findings on what is ordered by luck.

    A barrier orders the accesses to the tensor it names; what it orders besides is a finding
    (``barrier-data``), since on the device only the tensor's own accesses wait.
    """
    if len(cores) < 2:
        return [], []
    syncs = [_syncs(core) for core in cores]
    clocks = order(cores, syncs)
    shared = _shared(cores)
    found: list[Race] = []
    findings: list[Finding] = []
    touched = [_touched(core, column, set(shared)) for core, column in zip(cores, columns, strict=True)]
    for group, storages in _groups(shared).items():
        sets = [_Touch.of(column, rows, storages) for column, rows in zip(columns, touched, strict=True)]
        race = _first_race(storages, sets, clocks)
        if race is not None:
            found.append(race)
        elif any(sync.data is not None and shared.get(sync.data) != group for listed in syncs for sync in listed):
            named = [[s for s in listed if s.data is None or shared.get(s.data) == group] for listed in syncs]
            race = _first_race(storages, sets, order(cores, named))
            if race is not None:
                findings.append(_barrier_finding(race))
    return found, findings


def _shared(cores: Sequence[NeuronCore]) -> dict[int, int]:
    """Storages in HBM that more than one core may touch, by serial, and which of them are the same memory."""
    found: dict[int, int] = {}
    for core in cores:
        for storage in core.storages:
            if storage.shared or (storage.argument and not storage.buffer.on_chip):
                found[storage.serial] = id(storage)  # lent bytes of two arguments may be one array
    return found


def _groups(shared: dict[int, int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for serial, group in shared.items():
        groups.setdefault(group, []).append(serial)
    return groups


def _touched(core: NeuronCore, columns: Accesses, serials: set[int]) -> Array:
    """Indices of a core's accesses to shared HBM, barriers left out."""
    skip = {time for time, item in enumerate(core.instructions) if item.opcode == "core_barrier"}
    rows = np.flatnonzero(np.isin(columns.storage, np.fromiter(serials, np.int64, len(serials))))
    if skip and len(rows):
        rows = rows[~np.isin(columns.time[rows], np.fromiter(skip, np.int64, len(skip)))]
    return rows


@dataclass(frozen=True)
class _Touch:
    """One core's accesses to one shared tensor."""

    columns: Accesses
    rows: Array
    places: dict[tuple[int, Region], tuple[Array, tuple[tuple[int, int], ...]]]
    """Where indirect accesses lay: ``chip/indirect.py`` kept it."""

    @staticmethod
    def of(columns: Accesses, rows: Array, serials: list[int]) -> _Touch:
        state = columns.core.state
        places = state.get("places", {})
        known = []
        for k in rows[np.isin(columns.storage[rows], serials)].tolist():
            region, time = columns.regions[k], int(columns.time[k])
            if region.indirect is None or (time, region) in places:
                known.append(k)
        return _Touch(columns, np.array(known, np.int64), places)

    def instruction(self, row: int) -> Instruction:
        return self.columns.core.instructions[int(self.columns.time[row])]

    def key(self, row: int) -> tuple[Any, ...]:
        """Equal for accesses to the same bytes in the same way."""
        region = self.columns.regions[row]
        if region.indirect is None:
            return region.dtype, region.offset, region.pattern
        starts, pattern = self.places[int(self.columns.time[row]), region]
        return region.dtype, starts.tobytes(), pattern

    def value(self, row: int) -> int | None:
        """Checksum of what an instruction wrote (``Call.fingerprint``); None where nothing is computed."""
        kept = self._kept(row)
        return None if kept is None else kept[0]

    def idle(self, row: int) -> bool:
        """Whether a write left every byte as it was."""
        kept = self._kept(row)
        return kept is not None and not kept[1]

    def _kept(self, row: int) -> tuple[int, bool] | None:
        sums: dict[tuple[int, int], tuple[int, bool]] = self.columns.core.state.get("write-values", {})
        return sums.get((int(self.columns.time[row]), self.columns.regions[row].storage))

    def runs(self, row: int) -> tuple[Array, Array]:
        """Runs of bytes of an access."""
        region = self.columns.regions[row]
        if region.indirect is None:
            return region_runs(region)
        starts, pattern = self.places[int(self.columns.time[row]), region]
        low, high = runs(itemsize(region), 0, pattern)
        moved = (starts * itemsize(region))[:, None]
        return (moved + low).reshape(-1), (moved + high).reshape(-1)

    def extent(self, row: int) -> tuple[int, int]:
        """First and one past the last byte of an access."""
        region = self.columns.regions[row]
        if region.indirect is None:
            return extent(region)
        low, high = self.runs(row)
        return (int(low.min()), int(high.max())) if len(low) else (0, 0)


def _first_race(serials: list[int], sets: list[_Touch], clocks: Order) -> Race | None:
    """The earliest race between any two cores on one tensor; one that is no mere repeat comes first."""
    best: Race | None = None
    for a in range(len(sets)):
        for b in range(a + 1, len(sets)):
            for race in _pair_races(a, b, sets[a], sets[b], clocks):
                if best is None or (best.same and not race.same):
                    best = race
                if not race.same:
                    return race
    return best


def _pair_races(a: int, b: int, one: _Touch, two: _Touch, clocks: Order) -> Iterator[Race]:
    rows_a, rows_b = one.rows, two.rows
    writes_a, writes_b = one.columns.write[rows_a], two.columns.write[rows_b]
    # Whatever the order, only accesses that meet a write of the other core matter.
    met_a, met_b = _hits(two, rows_b[writes_b], one, rows_a)[1], _hits(one, rows_a[writes_a], two, rows_b)[1]
    met_by_a, met_by_b = _hits(one, met_a, two, rows_b[writes_b])[1], _hits(two, met_b, one, rows_a[writes_a])[1]
    rows_a, rows_b = _alike(one, rows_a, met_a, met_by_b), _alike(two, rows_b, met_b, met_by_a)
    if not len(rows_a) or not len(rows_b):
        return
    segments_a = clocks.segment(a, one.columns.time[rows_a])
    segments_b = clocks.segment(b, two.columns.time[rows_b])
    # Segment p of one and q of the other are unordered unless one core knows of the whole other segment.
    a_known = np.searchsorted(clocks.times[a], clocks.known[b][a])  # per segment of b: segments of a before it
    b_known = np.searchsorted(clocks.times[b], clocks.known[a][b])
    for p in np.unique(segments_a).tolist():
        beside = (segments_b >= b_known[p] + (clocks.known[a][b][p] > 0)) & (
            a_known[segments_b] + (clocks.known[b][a][segments_b] > 0) <= p
        )
        if not beside.any():
            continue
        yield from _conflicts(one, rows_a[segments_a == p], two, rows_b[beside])


def _alike(touch: _Touch, rows: Array, *found: Array) -> Array:
    """All accesses to the same bytes as some."""
    keys = {touch.key(k) for k in np.concatenate(found).tolist()}
    return np.array([k for k in rows.tolist() if touch.key(k) in keys], np.int64)


def _conflicts(one: _Touch, rows_a: Array, two: _Touch, rows_b: Array) -> Iterator[Race]:
    """Pairs of a write and another access that share bytes, at most one per kind.

    Writes that both cores do alike (same line, same bytes, equal values) do not conflict with each other: whichever
    comes last, the result is the same.
    """
    writes_a, writes_b = rows_a[one.columns.write[rows_a]], rows_b[two.columns.write[rows_b]]
    twins = _twins(one, writes_a, two, writes_b)
    if twins:
        yield _race(one, twins[0][0], two, twins[0][1], same=True)
    alone_a = writes_a[~np.isin(writes_a, [a for a, _ in twins])]
    alone_b = writes_b[~np.isin(writes_b, [b for _, b in twins])]
    for left, first, right, second in ((one, alone_a, two, rows_b), (two, alone_b, one, rows_a)):
        scattered, others = _scatters(left, first), _scatters(right, second)
        for some, beside in ((first[~scattered], second), (first[scattered], second[~others])):
            hit = _meet(left, some, right, beside)
            if hit is not None:
                yield _race(left, hit[0], right, hit[1], same=False)
        hit = _meet(left, first[scattered], right, second[others])
        if hit is not None:
            yield replace(_race(left, hit[0], right, hit[1], same=True), scatter=True)
    if twins:
        for reader, rows, writer, pairs in (
            (one, rows_a, two, twins), (two, rows_b, one, [(b, a) for a, b in twins]),
        ):  # fmt: skip
            # What both cores write without changing anything disturbs nobody.
            busy = [pair for pair in pairs if not (reader.idle(pair[0]) and writer.idle(pair[1]))]
            hit = _stale(reader, rows, busy) if busy else None
            if hit is not None:
                yield _race(writer, hit[0], reader, hit[1], same=False)


def _scatters(touch: _Touch, rows: Array) -> Array:
    """Which accesses are writes of rows by index."""
    return np.array([touch.columns.write[k] and touch.columns.regions[k].indirect == "vector" for k in rows], np.bool_)


def _twins(one: _Touch, rows_a: Array, two: _Touch, rows_b: Array) -> list[tuple[int, int]]:
    """Writes of two cores at one line, to the same bytes, of equal values: the n-th such of each."""
    keys: dict[tuple[Any, ...], int] = {}
    counts: dict[tuple[Any, ...], int] = {}
    for touch, rows, found in ((one, rows_a, keys), (two, rows_b, None)):
        counts.clear()
        pairs: list[tuple[int, int]] = []
        for k in rows.tolist():
            key = (touch.instruction(k).source, *touch.key(k))
            turn = counts[key] = counts.get(key, -1) + 1
            if found is not None:
                found[(*key, turn)] = k
            elif (mate := keys.get((*key, turn))) is not None and one.value(mate) == two.value(k):
                pairs.append((mate, k))
    return pairs


#: Reads of what both cores write alike are followed one by one up to this many.
_FOLLOWED = 20_000


def _stale(reader: _Touch, rows: Array, pairs: list[tuple[int, int]]) -> tuple[int, int] | None:
    """A read that may meet a twin write of the other core at the wrong moment: the write and the read.

    It is safe where the reader's own twin comes before the read, and none of its writes to those bytes between.
    """
    written = reader.columns.write[rows]
    reads, writes = rows[~written], rows[written]
    writes = np.array([k for k in writes.tolist() if not reader.idle(k)], np.int64)
    if not len(reads):
        return None
    spans = np.array([reader.extent(own) for own, _ in pairs])
    write_spans = np.array([reader.extent(k) for k in writes.tolist()], np.int64).reshape(-1, 2)
    followed, memo = 0, dict[Any, Any]()
    for read in reads.tolist():
        low, high = reader.extent(read)
        for p in np.flatnonzero((spans[:, 0] < high) & (spans[:, 1] > low)).tolist():
            own, other = pairs[p]
            followed += 1
            if followed > _FOLLOWED:
                return None
            if not _share(reader, own, read, memo):
                continue
            near = (write_spans[:, 0] < spans[p, 1]) & (write_spans[:, 1] > spans[p, 0])
            between = writes[near & (writes > own) & (writes < read)].tolist()
            if own > read or any(_share(reader, own, k, memo) for k in between):
                return other, read
    return None


def _share(touch: _Touch, one: int, two: int, memo: dict[Any, Any]) -> bool:
    """Whether two accesses of one core share a byte; ``memo`` keeps the runs of bytes of earlier calls."""
    sides = []
    for row in (one, two):
        if row not in memo:
            memo[row] = union(*touch.runs(row))
        sides.append(memo[row])
    (starts, stops), (low, high) = sides
    place = np.searchsorted(starts, high) - 1
    return bool(((place >= 0) & (stops[place] > low)).any())


def _race(left: _Touch, first: int, right: _Touch, second: int, *, same: bool) -> Race:
    serial, core = left.columns.regions[first].storage, left.columns.core
    storage = core.launch.cores[serial % core.cores].storages[serial // core.cores]
    return Race(
        storage, left.instruction(first), right.instruction(second), bool(right.columns.write[second]), same
    )  # fmt: skip


def _meet(left: _Touch, first: Array, right: _Touch, second: Array) -> tuple[int, int] | None:
    """A write of ``first`` and the earliest access of ``second`` that share a byte."""
    leaders, hits = _hits(left, first, right, second)
    if not len(hits):
        return None
    k = int(np.argmin(hits))
    return int(leaders[k]), int(hits[k])


def _hits(left: _Touch, first: Array, right: _Touch, second: Array) -> tuple[Array, Array]:
    """Accesses of ``second`` that share a byte with one of ``first``, by their runs, and that one of ``first``."""
    first, second = _near(left, first, right, second)
    if not len(first) or not len(second):
        return first[:0], second[:0]
    starts, stops, owner = _spread(left, first)
    rising = np.argsort(starts, kind="stable")
    starts, stops, owner = starts[rising], stops[rising], owner[rising]
    reach = np.maximum.accumulate(stops)
    # The access that reaches furthest so far.
    leader = owner[np.maximum.accumulate(np.where(stops == reach, np.arange(len(stops)), 0))]
    low, high, who = _spread(right, second)
    place = np.searchsorted(starts, high) - 1
    found = np.flatnonzero((place >= 0) & (reach[place] > low))
    return leader[place[found]], who[found]


def _near(left: _Touch, first: Array, right: _Touch, second: Array) -> tuple[Array, Array]:
    """Only accesses whose extents meet the other side's."""
    if not len(first) or not len(second):
        return first[:0], second[:0]
    mine = np.array([left.extent(k) for k in first.tolist()])
    theirs = np.array([right.extent(k) for k in second.tolist()])
    low, high = max(mine[:, 0].min(), theirs[:, 0].min()), min(mine[:, 1].max(), theirs[:, 1].max())
    return (
        first[(mine[:, 0] < high) & (mine[:, 1] > low)],
        second[(theirs[:, 0] < high) & (theirs[:, 1] > low)],
    )


def _spread(touch: _Touch, rows: Array) -> tuple[Array, Array, Array]:
    """All runs of bytes of some accesses, with the access of each; equal regions once, by their earliest access."""
    seen: dict[tuple[Any, ...], int] = {}
    for k in rows.tolist():
        seen.setdefault(touch.key(k), k)
    pieces = [(*touch.runs(k), k) for k in seen.values()]
    return (
        np.concatenate([starts for starts, _, _ in pieces]),
        np.concatenate([stops for _, stops, _ in pieces]),
        np.repeat(np.array([k for _, _, k in pieces], np.int64), [len(starts) for starts, _, _ in pieces]),
    )


def race_error(race: Race) -> NkiValidationError:
    """The error ``race``, at the later line, naming both."""
    other = "writes" if race.both_write else "reads"
    return violation(
        race.second.opcode, title(race.storage),
        f"core {race.second.core} {other} bytes that {race.first.opcode} at {race.first.source} writes on core "
        f"{race.first.core}, in either order", value="nothing orders the two", rule="race", at=race.second.source,
        expected=f"nki.isa.core_barrier on {title(race.storage)} between them, or disjoint parts",
    )  # fmt: skip


def duplicate_finding(race: Race) -> Finding:
    """Both cores write the same bytes at the same line, or scatter to the same row."""
    if race.scatter:
        return Finding(
            "duplicate-scatter", f"all cores scatter to the same rows of {title(race.storage)}: right only if nobody "
            "reads them, or the values are equal", race.second.source,
        )  # fmt: skip
    return Finding(
        "duplicate-write", f"all cores write the same bytes of {title(race.storage)}: wasted, and right only if "
        "the values are equal", race.second.source,
    )  # fmt: skip


def _barrier_finding(race: Race) -> Finding:
    return Finding(
        "barrier-data", f"{title(race.storage)}, also accessed at {race.first.source} by the other core: the barrier "
        "between them names another tensor", race.second.source,
    )  # fmt: skip
