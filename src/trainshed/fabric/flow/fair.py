"""Flow level: bytes of all sends under way share the links max-min fairly; time jumps from change to change.

A send is ready when all that it waits for have arrived and its time has come. Its chip issues it (``message`` seconds,
one after another); ``hop`` later, and when its connection is free (``order.py``), its first byte leaves, and from then
on it is a flow: it drains at a rate that all of its links carry at once. The last byte arrives ``latency`` after it has
left. That such a fluid comes close to packets is known from SimGrid (Velho, Schnorr, Casanova, Legrand, ACM TOMACS 23,
2013); ``packet.py`` says how close here.

All that happens within ``TIE`` of the clock happens at once, in the order of ``Happens`` and by number within it, so
that a step of a symmetrical collective is a handful of events. Times are floating-point seconds, because a fluid has no
smallest part.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainshed.core import UserError
from trainshed.fabric.flow.loads import Loads, loads
from trainshed.fabric.flow.order import Connections
from trainshed.fabric.flow.sends import Floats, Ints, Run, Sends, Transport
from trainshed.fabric.flow.shares import TIE, ranges
from trainshed.fabric.flow.traffic import FEW, Traffic
from trainshed.fabric.network.graph import Network


@dataclass(frozen=True)
class Flow:
    """The model at flow level (``Model``)."""

    def run(self, network: Network, sends: Sends, transport: Transport, *, routing: str = "spray") -> Run:
        """Time all sends. UserError where a pair of chips is not connected, or sends wait for each other."""
        return Clock(sends, loads(network, sends, transport, routing)).run()


class Happens(IntEnum):
    """What may happen to sends, in the order in which it does at one time."""

    ARRIVE = 0
    READY = 1
    BEGIN = 2


class Clock:
    """One run: events to come, flows under way, and when sends began and ended."""

    def __init__(self, sends: Sends, loads: Loads) -> None:
        self.sends, self.loads = sends, loads
        self.now, self.serial = 0.0, 0
        self.events: list[tuple[float, int, Happens, list[int]]] = []
        """Time, serial, kind, and numbers of sends."""
        count = len(sends)
        self.begin, self.end = np.full(count, np.nan), np.full(count, np.nan)
        self.missing = np.diff(sends.first)
        self.next_first, self.next = _reversed(sends)
        self.busy = np.zeros(int(sends.source.max()) + 1 if count else 0)
        """``[chips]`` s: until when a chip issues messages."""
        self.issues = bool(loads.message.any())
        self.moves = (sends.size > 0.0) & (np.diff(loads.first)[loads.pair] > 0)
        self.connections = Connections(sends, loads.pair)
        self.traffic = Traffic(sends, loads)
        self.few = _Few(self)

    def run(self) -> Run:
        """Until nothing is left to happen."""
        self._becomes_ready(np.flatnonzero(self.missing == 0))
        while (now := min(self.events[0][0] if self.events else np.inf, self.traffic.due)) < np.inf:
            self.now = now
            self._gone(self.traffic.drain(now))
            self._happen()
            self.traffic.settle()
        stuck = np.flatnonzero(np.isnan(self.end))
        if len(stuck):
            raise UserError(
                "sends wait for each other in a circle", where="network model",
                value=f"{len(stuck)} sends, the first from chip {self.sends.source[stuck[0]]} to chip "
                f"{self.sends.target[stuck[0]]}", expected="dependencies without circles",
            )  # fmt: skip
        carried, peak = self.traffic.links()
        return Run(begin=self.begin, end=self.end + self.loads.finish, carried=carried, peak=peak)

    def _happen(self) -> None:
        """All events of this time, those included that they bring about."""
        many, few = (self._arrive, self._issue, self._start), (self.few.arrive, self.few.issue, self.few.start)
        waiting: tuple[list[int], ...] = ([], [], [])
        while True:
            while self.events and self.events[0][0] <= self.now * (1.0 + TIE):
                _, _, kind, some = heapq.heappop(self.events)
                waiting[kind].extend(some)
            kind = Happens.ARRIVE if waiting[0] else Happens.READY if waiting[1] else Happens.BEGIN
            which = sorted(waiting[kind])
            waiting[kind].clear()
            if not which:
                return
            if len(which) <= FEW:
                few[kind](which)
            else:
                many[kind](np.array(which))

    def _gone(self, flows: list[int]) -> None:
        """Last bytes leave; those whose turn it is then begin."""
        if not flows:
            return
        if len(flows) <= FEW:
            self.few.gone(flows)
        else:
            which = np.array(flows)
            self._push(self.now + self.loads.latency[self.loads.pair[which]], Happens.ARRIVE, which)
        self._begins(np.array(sorted(self.connections.leave(flows)), dtype=np.int64))

    def _arrive(self, which: Ints) -> None:
        """Ends sends; those that waited for nothing else become ready."""
        self.end[which] = self.now
        after = ranges(self.next_first, self.next, which)
        np.subtract.at(self.missing, after, 1)
        self._becomes_ready(np.unique(after[self.missing[after] == 0]))

    def _becomes_ready(self, which: Ints) -> None:
        """Sends that wait for nothing but their time."""
        self._push(np.maximum(self.loads.start[which], self.now), Happens.READY, which)

    def _issue(self, which: Ints) -> None:
        """Each chip issues its sends one after another, in the order of their numbers."""
        pair, source = self.loads.pair[which], self.sends.source[which]
        issued = np.full(len(which), self.now)
        if self.issues:
            order = np.argsort(source, kind="stable")
            chip, each = source[order], self.loads.message[pair][order]
            total = np.cumsum(each)
            head = np.flatnonzero(np.diff(chip, prepend=-1))
            before = np.repeat(total[head] - each[head], np.diff(head, append=len(chip)))
            issued[order] = np.maximum(self.busy[chip], self.now) + total - before
            np.maximum.at(self.busy, source, issued)
        self._push(issued + self.loads.hop[pair], Happens.BEGIN, which)

    def _start(self, which: Ints) -> None:
        """Sends begin if their connection is free; what has no bytes, or no link to pass, only takes the latency."""
        moves = self.moves[which]
        if not moves.all():
            rest = which[~moves]
            self.begin[rest] = self.now
            self._push(self.now + self.loads.latency[self.loads.pair[rest]], Happens.ARRIVE, rest)
        which = which[moves]
        single = self.connections.single[which]
        others = self.connections.admit(self.now, which[~single].tolist())
        self._begins(np.sort(np.concatenate((which[single], np.array(others, dtype=np.int64)))))

    def _begins(self, which: Ints) -> None:
        """First bytes leave."""
        if len(which):
            self.begin[which] = self.now
            self.traffic.begin(self.now, which)

    def _push(self, when: Floats, kind: Happens, which: Ints) -> None:
        """What happens to sends later, one event per time."""
        order = np.argsort(when, kind="stable")
        when, which = when[order], which[order]
        head = np.flatnonzero(np.diff(when, prepend=-np.inf) > TIE * when)
        for at, some in zip(when[head].tolist(), np.split(which, head[1:]), strict=False):
            self.push(at, kind, some.tolist())

    def push(self, when: float, kind: Happens, which: list[int]) -> None:
        """What happens to sends later, at one time."""
        heapq.heappush(self.events, (when, self.serial, kind, which))
        self.serial += 1


class _Few:
    """The same for a few sends, one by one over views of the same columns: no ring in which all ranks are out of step
    should wait for columns of one row."""

    def __init__(self, clock: Clock) -> None:
        sends, loads = clock.sends, clock.loads
        self.clock = clock
        self.begin, self.end, self.missing = _views(clock.begin, clock.end, clock.missing)
        self.next_first, self.next, self.busy = _views(clock.next_first, clock.next, clock.busy)
        self.source, self.size, self.moves = _views(sends.source, sends.size, clock.moves)
        self.pair, self.opens = _views(loads.pair, loads.start)
        self.latency, self.hop, self.message = _views(loads.latency, loads.hop, loads.message)

    def arrive(self, which: list[int]) -> None:
        """``Clock._arrive``."""
        now, missing = self.clock.now, self.missing
        ready: list[int] = []
        for send in which:
            self.end[send] = now
            for after in self.next[self.next_first[send] : self.next_first[send + 1]]:
                missing[after] -= 1
                if not missing[after]:
                    ready.append(after)
        for send in ready:
            self.clock.push(max(self.opens[send], now), Happens.READY, [send])

    def issue(self, which: list[int]) -> None:
        """``Clock._issue``."""
        for send in which:
            issued, pair = self.clock.now, self.pair[send]
            if self.clock.issues:
                chip = self.source[send]
                issued = self.busy[chip] = max(self.busy[chip], issued) + self.message[pair]
            self.clock.push(issued + self.hop[pair], Happens.BEGIN, [send])

    def start(self, which: list[int]) -> None:
        """``Clock._start``."""
        clock = self.clock
        for send in which:
            if not self.moves[send]:
                self.begin[send] = clock.now
                clock.push(clock.now + self.latency[self.pair[send]], Happens.ARRIVE, [send])
        begin = clock.connections.admit(clock.now, [send for send in which if self.moves[send]])
        clock._begins(np.array(begin, dtype=np.int64))

    def gone(self, which: list[int]) -> None:
        """``Clock._gone``."""
        for send in which:
            self.clock.push(self.clock.now + self.latency[self.pair[send]], Happens.ARRIVE, [send])


def _views(*columns: NDArray[Any]) -> tuple[Any, ...]:
    """Columns of which single values are read and written faster than through NumPy."""
    return tuple(column.data for column in columns)


def _reversed(sends: Sends) -> tuple[Ints, Ints]:
    """Who waits for a send, as CSR: ``before`` turned round."""
    count = len(sends)
    waits = np.repeat(np.arange(count), np.diff(sends.first))
    order = np.argsort(sends.before, kind="stable")
    first = np.concatenate(([0], np.cumsum(np.bincount(sends.before, minlength=count))))
    return first, waits[order]
