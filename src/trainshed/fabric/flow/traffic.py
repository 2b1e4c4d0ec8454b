"""All flows under way: those that meet others on their links are in a pool, those that meet nobody are on wires.

Most flows of a ring or a pipeline meet nobody. They need no rates found anew whenever anything happens anywhere.
"""

from __future__ import annotations

import heapq
from typing import Any

import numpy as np

from trainshed.fabric.flow.loads import Loads, alone
from trainshed.fabric.flow.sends import Floats, Ints, Sends
from trainshed.fabric.flow.shares import TIE, Pool, Wire, ranges

#: Up to so many sends at a time are gone through one by one, which is then faster than by columns.
FEW = 24


class Traffic:
    """Which flow is where, and when the next one ends."""

    def __init__(self, sends: Sends, loads: Loads) -> None:
        self.loads, self.size = loads, sends.size
        self.pool = Pool(loads)
        links = len(loads.capacity)
        self._users = np.zeros(links, dtype=np.int64)
        """``[links]`` pairs of chips with flows on a link."""
        self._owner = np.full(links, -1, dtype=np.int64)
        """``[links]`` the pair whose wire it is part of; −1: none."""
        self._alone = alone(loads.first, loads.capacity[loads.link] / loads.share)
        self._wires: dict[int, Wire] = {}
        self._busy: dict[int, float] = {}
        """s that a pair has been a wire with flows."""
        self._due: list[tuple[float, int]] = []
        self._view: Any = tuple(c.data for c in (loads.pair, loads.first, loads.link, self._users, self._owner))
        self._pooled: Any = self.pool.count.data

    @property
    def due(self) -> float:
        """s: when something may end."""
        return min(self.pool.due, self._due[0][0]) if self._due else self.pool.due

    def begin(self, now: float, flows: Ints) -> None:
        """Flows that begin."""
        pooled = self._begin_few(now, flows.tolist()) if len(flows) <= FEW else self._begin_many(now, flows)
        if pooled:
            which, left = zip(*pooled, strict=True)
            self.pool.add(now, np.array(which), np.array(left))

    def _begin_few(self, now: float, flows: list[int]) -> list[tuple[int, float]]:
        """One by one; what goes into the pool, and the bytes it has left."""
        pair_of, first, link, users, owner = self._view
        pooled: list[tuple[int, float]] = []
        joined = set()
        for flow in flows:
            pair = pair_of[flow]
            if pair in self._wires:
                self._on_wire(now, pair, flow)
                continue
            pooled.append((flow, float(self.size[flow])))
            if pair in joined or self._pooled[pair]:
                continue
            links = link[first[pair] : first[pair + 1]].tolist()
            met = [at for at in links if users[at]]
            for at in links:
                users[at] += 1
            if met:
                joined.add(pair)
                for other in {owner[at] for at in met} - {-1}:
                    joined.add(other)
                    pooled += self._to_pool(now, other)
            else:
                pooled.pop()
                for at in links:
                    owner[at] = pair
                self._on_wire(now, pair, flow)
        return pooled

    def _begin_many(self, now: float, flows: Ints) -> list[tuple[int, float]]:
        """The same by columns."""
        loads, pair = self.loads, self.loads.pair[flows]
        new = np.unique(pair)
        new = new[(self.pool.count[new] == 0) & ~np.isin(new, list(self._wires))]
        size, link = np.diff(loads.first)[new], ranges(loads.first, loads.link, new)
        np.add.at(self._users, link, 1)
        free = np.zeros(len(self.pool.count), dtype=bool)
        if len(new):
            free[new] = np.maximum.reduceat(self._users[link], np.cumsum(size) - size) == 1
        of_free = np.repeat(free[new], size)
        pooled: list[tuple[int, float]] = []
        for other in set(self._owner[link[~of_free]].tolist()) - {-1}:
            pooled += self._to_pool(now, other)
        self._owner[link[of_free]] = np.repeat(new, size)[of_free]
        free[list(self._wires)] = True
        for flow, at in zip(flows[free[pair]].tolist(), pair[free[pair]].tolist(), strict=True):
            self._on_wire(now, at, flow)
        rest = flows[~free[pair]]
        return pooled + list(zip(rest.tolist(), self.size[rest].tolist(), strict=True))

    def _on_wire(self, now: float, pair: int, flow: int) -> None:
        wire = self._wires.get(pair)
        if wire is None:
            wire = self._wires[pair] = Wire(float(self._alone[pair]))
        wire.add(now, flow, float(self.size[flow]))
        heapq.heappush(self._due, (wire.due, pair))

    def _to_pool(self, now: float, pair: int) -> list[tuple[int, float]]:
        """A wire that is met by others is one no longer."""
        wire = self._wires.pop(pair)
        left = wire.leave(now)
        self._busy[pair] = self._busy.get(pair, 0.0) + wire.busy
        self._owner[self.loads.link[self.loads.first[pair] : self.loads.first[pair + 1]]] = -1
        return left

    def drain(self, now: float) -> list[int]:
        """Flows that have ended by now, which leave."""
        gone: list[int] = []
        until = now * (1.0 + TIE)
        _, first, link, users, owner = self._view
        while self._due and self._due[0][0] <= until:
            pair = heapq.heappop(self._due)[1]
            wire = self._wires.get(pair)
            if wire is None or wire.due > until:  # a flow came in between
                continue
            gone += wire.drain(now)
            if wire.due < np.inf:
                heapq.heappush(self._due, (wire.due, pair))
                continue
            self._busy[pair] = self._busy.get(pair, 0.0) + wire.busy
            del self._wires[pair]
            for at in link[first[pair] : first[pair + 1]].tolist():
                users[at] -= 1
                owner[at] = -1
        if self.pool.due <= until:
            left = self.pool.drain(now)
            pairs = np.unique(self.loads.pair[left])
            pairs = pairs[self.pool.count[pairs] == 0]
            np.subtract.at(self._users, ranges(self.loads.first, self.loads.link, pairs), 1)
            gone += left.tolist()
        return gone

    def settle(self) -> None:
        """New rates, once all that happens at a time has happened."""
        if self.pool.changed:
            self.pool.settle()

    def links(self) -> tuple[Floats, Floats]:
        """``[links]`` bytes that links carried, and the largest part of their rate in use, after the end."""
        loads, carried, peak = self.loads, self.pool.carried.copy(), self.pool.peak.copy()
        for pair, busy in self._busy.items():
            if not busy:  # met by another flow when it began
                continue
            of_pair = slice(loads.first[pair], loads.first[pair + 1])
            link, load = loads.link[of_pair], self._alone[pair] * loads.share[of_pair]
            carried[link] += load * busy
            peak[link] = np.maximum(peak[link], load / loads.capacity[link])
        return carried[: loads.links], peak[: loads.links]
