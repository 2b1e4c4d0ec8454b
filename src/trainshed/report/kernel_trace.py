"""A kernel's time as a Perfetto trace: per core a track for each engine and DMA queue, its collectives among ranks, and
memory that is live.

The format is Perfetto's own (protobuf), which its viewer, ui.perfetto.dev, and its trace processor read: a kernel may
have a million instructions. Field numbers are those of ``protos/perfetto/trace``. Source: perfetto.dev, "TrackEvent".
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainshed.chip.accesses import Accesses
from trainshed.chip.record import Instruction
from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.cost import LINKS
from trainshed.chip.timing.origins import Origins, origins
from trainshed.chip.timing.path import path as critical_path
from trainshed.chip.timing.timeline import live_bytes
from trainshed.chip.words import engine
from trainshed.nki.world import Ranks
from trainshed.report.protobuf import message, number, text
from trainshed.report.whole import write_whole

#: TracePacket, TrackDescriptor, TrackEvent and its kinds, DebugAnnotation, InternedData.
_PACKET, _TIME, _SEQUENCE, _EVENT, _INTERNED, _FLAGS, _DESCRIPTOR = 1, 8, 10, 11, 12, 13, 60
_UUID, _NAME, _PARENT, _COUNTER, _ORDERING, _RANK, _EXPLICIT, _UNIT, _BYTES = 1, 2, 5, 8, 11, 12, 3, 3, 3
_KIND, _TRACK, _NAME_ID, _ANNOTATION, _VALUE, _BEGIN, _END, _COUNT = 9, 11, 10, 4, 30, 1, 2, 4
_EVENT_NAMES, _KEYS, _STRINGS = 2, 3, 29
_KEY_ID, _TRUTH, _UINT, _STRING_ID = 1, 2, 3, 17
#: Arguments of a slice; a name's place is its number in the trace.
_ARGUMENTS = ("line", "waited for", "instruction", "bytes", "on the critical path", "name")
_CLEARED, _NEEDED = number(_FLAGS, 1), number(_FLAGS, 2)


class _Slice(NamedTuple):
    """One instruction on a track; times in nanoseconds."""

    begin: int
    end: int
    instruction: int


class _Names:
    """Strings told once, by number."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def __call__(self, name: str) -> int:
        return self._ids.setdefault(name, len(self._ids) + 1)

    def fields(self, field: int) -> bytes:
        return b"".join(message(field, number(1, i), text(2, name)) for name, i in self._ids.items())


class _Writer:
    """Packets of one trace in the order of tracks."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.events: list[bytes] = []
        self.names, self.strings = _Names(), _Names()
        self._tracks = 0

    def track(self, name: str, parent: int = 0, rank: int = 0, *, counter: bool = False) -> int:
        """A new track; returns its number. Those of one name under one parent are shown as one."""
        self._tracks += 1
        about = [number(_UUID, self._tracks), text(_NAME, name)]
        if parent:
            about += [number(_PARENT, parent), number(_RANK, rank)]
        else:
            about.append(number(_ORDERING, _EXPLICIT))
        if counter:
            about.append(message(_COUNTER, number(_UNIT, _BYTES)))
        self.packets.append(message(_PACKET, number(_SEQUENCE, 1), message(_DESCRIPTOR, *about)))
        return self._tracks

    def event(self, moment: int, *fields: bytes) -> None:
        """One event; ``moment`` in nanoseconds."""
        self.events.append(message(_PACKET, number(_TIME, moment), _SAME, message(_EVENT, *fields)))

    def data(self) -> bytes:
        """The whole trace: names, tracks, events."""
        keys = b"".join(message(_KEYS, number(1, i + 1), text(2, name)) for i, name in enumerate(_ARGUMENTS))
        interned = message(_INTERNED, self.names.fields(_EVENT_NAMES), keys, self.strings.fields(_STRINGS))
        first = message(_PACKET, number(_SEQUENCE, 1), _CLEARED, interned)
        return b"".join((first, *self.packets, *self.events))


_SAME = number(_SEQUENCE, 1) + _NEEDED


def write_trace(
    path: Path, columns: Sequence[Accesses], clocks: Sequence[Clock], names: Sequence[str] | None = None
) -> None:
    """Write the trace of a finished launch, or of several ranks', whole or not at all; ``names``: of its cores."""
    writer = _Writer()
    names = names or [f"NeuronCore {column.core.index}" for column in columns]
    for column, clock, name in zip(columns, clocks, names, strict=True):
        _core(writer, column, clock, name)
    write_whole(path, writer.data())


def write_ranks(path: Path, ranks: Ranks) -> None:
    """Write the trace of ``nki.simulate_ranks``: all cores of all ranks, and the chip of each."""
    per_chip = ranks.world.links.per_chip
    columns = [column for cores in ranks.columns for column in cores]
    names = [
        f"chip {rank // per_chip}, rank {rank}, NeuronCore {column.core.index}"
        for rank, cores in enumerate(ranks.columns) for column in cores
    ]  # fmt: skip
    write_trace(path, columns, [clock for cores in ranks.clocks for clock in cores], names)


def _core(writer: _Writer, columns: Accesses, clock: Clock, called: str) -> None:
    items = columns.core.instructions
    root = writer.track(called)
    by_queue: dict[str, list[int]] = {}
    for i, (item, queue) in enumerate(zip(items, clock.queue, strict=True)):
        name = f"dma {queue}" if item.engine is engine.dma else item.engine.name
        if LINKS in item.work:
            name = queue
        by_queue.setdefault(name, []).append(i)
    told = _Told(writer, items, clock)
    engines = [one.name for one in engine if one.name in by_queue]
    order = engines + sorted(queue for queue in by_queue if queue not in engines)
    for rank, name in enumerate(order):
        for lane in _lanes(_slices(by_queue[name], clock)):
            _draw(writer, writer.track(name, root, rank), lane, told)
    for rank, buffer in enumerate(("sbuf", "psum"), len(order)):
        counter = writer.track(f"{buffer} live per partition", root, rank, counter=True)
        moments, held = live_bytes(columns, clock, buffer)
        for moment, value in zip(_nanoseconds(moments), held.tolist(), strict=True):
            writer.event(moment, number(_KIND, _COUNT), number(_TRACK, counter), number(_VALUE, value))


def _nanoseconds(seconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[int]:
    found: list[int] = np.rint(seconds * 1e9).astype(np.int64).tolist()
    return found


def _slices(own: list[int], clock: Clock) -> list[_Slice]:
    """The instructions of one queue in the order of their starts."""
    made = map(_Slice, _nanoseconds(clock.start[own]), _nanoseconds(clock.end[own]), own)
    return sorted(made)


def _lanes(slices: Iterable[_Slice]) -> list[list[_Slice]]:
    """Slices that overlap lie on lanes of their own: the one free for the longest time, else a new one."""
    lanes: list[list[_Slice]] = []
    free: list[tuple[int, int]] = []
    for one in slices:
        if free and free[0][0] <= one.begin:
            lane = heapq.heappop(free)[1]
        else:
            lane = len(lanes)
            lanes.append([])
        lanes[lane].append(one)
        heapq.heappush(free, (one.end, lane))
    return lanes


def _draw(writer: _Writer, track: int, slices: Iterable[_Slice], told: _Told) -> None:
    place = number(_TRACK, track)
    begin, end = number(_KIND, _BEGIN) + place, number(_KIND, _END) + place
    for one in slices:
        writer.event(one.begin, begin, *told.of(one.instruction))
        writer.event(one.end, end)


class _Told:
    """What a slice says of its instruction."""

    def __init__(self, writer: _Writer, items: Sequence[Instruction], clock: Clock) -> None:
        self._items, self._cause, self._strings = items, clock.cause, writer.strings
        where: Origins = origins(items)
        self._origin: list[int] = where.of.tolist()
        self._names = [
            number(_NAME_ID, writer.names(name.opcode)) + self._string(0, name.source) for name in where.names
        ]
        self._waited = [self._string(1, f"{name.opcode} at {name.source} ({name.engine})") for name in where.names]
        self._critical = set(critical_path(clock, where.on("dma"))[0].tolist())

    def _string(self, argument: int, value: str) -> bytes:
        return message(_ANNOTATION, number(_KEY_ID, argument + 1), number(_STRING_ID, self._strings(value)))

    def of(self, i: int) -> Iterator[bytes]:
        """Fields of the event that begins instruction ``i``."""
        item, origin, cause = self._items[i], self._origin[i], self._cause[i]
        yield self._names[origin]
        if cause >= 0:
            yield self._waited[self._origin[cause]]
        yield _count(2, i)
        if "bytes" in item.work:
            yield _count(3, item.work["bytes"])
        if i in self._critical:
            yield _CRITICAL
        if item.name:
            yield self._string(5, item.name)


def _count(argument: int, value: int) -> bytes:
    return message(_ANNOTATION, number(_KEY_ID, argument + 1), number(_UINT, value))


_CRITICAL = message(_ANNOTATION, number(_KEY_ID, 5), number(_TRUTH, 1))
