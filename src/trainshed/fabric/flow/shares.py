"""How flows under way share links: max-min fair rates, over all links at once, or on links that one pair has alone.

Bertsekas and Gallager, Data Networks, section 6.5: no rate can grow but at the cost of one that is no larger.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trainshed.fabric.flow.loads import Loads
from trainshed.fabric.flow.sends import Floats, Ints

T = TypeVar("T", np.int64, np.float64)
#: Times (and fill levels of links) this close, relative, are the same.
TIE = 1e-10
#: Bytes of columns that a pool keeps of rates it has found.
REMEMBERED = 64e6


def max_min(first: Ints, link: Ints, share: Floats, count: Floats, capacity: Floats) -> Floats:
    """``[classes]`` B/s of each flow, where class c has ``count[c]`` equal flows over ``link[first[c]:first[c + 1]]``.

    Progressive filling, many links at a time: a link none of whose flows has a tighter link is what limits them,
    whatever happens elsewhere, because filling other links can only leave more to those flows that remain. All such
    links are settled in one round; rounds are as many as bottlenecks that depend on each other.
    """
    classes, links = len(first) - 1, len(capacity)
    rate, room = np.zeros(classes), capacity
    left, start, size = np.arange(classes), first[:-1], first[1:] - first[:-1]
    weight = share * np.repeat(count, size)
    while len(left):
        level = room[link] / np.bincount(link, weights=weight, minlength=links)[link]
        lowest = np.minimum.reduceat(level, start)
        tighter_elsewhere = level > np.repeat(lowest, size) * (1.0 + TIE)
        open_links = np.zeros(links, dtype=bool)
        open_links[link[tighter_elsewhere]] = True
        settled = np.logical_or.reduceat(~open_links[link], start)
        rate[left[settled]] = lowest[settled]
        of_settled = np.repeat(settled, size)
        used = weight[of_settled] * np.repeat(lowest[settled], size[settled])
        room = np.maximum(room - np.bincount(link[of_settled], weights=used, minlength=links), 0.0)
        link, weight, left, size = link[~of_settled], weight[~of_settled], left[~settled], size[~settled]
        start = np.cumsum(size) - size
    return rate


@dataclass(frozen=True, eq=False)
class _Rates:
    """Max-min rates of one set of flows."""

    count: Floats
    """``[pairs]`` flows."""
    rate: Floats
    """``[pairs]`` B/s of each."""
    load: Floats
    """``[capacities]`` B/s."""


class Pool:
    """Flows whose links others use too. Flows of one pair of chips are one class; sets that come again are known."""

    def __init__(self, loads: Loads) -> None:
        self.loads = loads
        pairs = len(loads.first) - 1
        self.flows: Ints = np.zeros(0, dtype=np.int64)
        self.left: Floats = np.zeros(0)
        """``[flows]`` bytes at ``since``."""
        self.rate: Floats = np.zeros(0)
        self.load = np.zeros(len(loads.capacity))
        self.since, self.due = 0.0, np.inf
        self.count = np.zeros(pairs)
        self.carried, self.peak = np.zeros(len(loads.capacity)), np.zeros(len(loads.capacity))
        self.changed = False
        # a set of flows is looked up by the sum of random numbers of its members, then compared
        self._mark = np.random.default_rng(11).integers(0, 2**63, pairs, dtype=np.uint64)
        self._key = np.uint64(0)
        self._known: dict[int, _Rates] = {}

    def add(self, now: float, flows: Ints, size: Floats) -> None:
        """Flows that begin."""
        self._advance(now)
        self.flows, self.left = np.concatenate((self.flows, flows)), np.concatenate((self.left, size))
        self.rate = np.concatenate((self.rate, np.zeros(len(flows))))
        self._tally(flows, 1)

    def drain(self, now: float) -> Ints:
        """Flows that have ended by now, which leave."""
        done = self.since + self.left / self.rate <= now * (1.0 + TIE)
        self._advance(now)
        gone = self.flows[done]
        self.flows, self.left, self.rate = self.flows[~done], self.left[~done], self.rate[~done]
        self._tally(gone, -1)
        return gone

    def settle(self) -> None:
        """New rates, once all that happens at a time has happened."""
        self.changed = False
        if not len(self.flows):
            self.load, self.due = np.zeros(len(self.load)), np.inf
            return
        rates = self._rates()
        self.rate, self.load = rates.rate[self.loads.pair[self.flows]], rates.load
        self.due = self.since + float((self.left / self.rate).min())

    def _advance(self, now: float) -> None:
        passed = now - self.since
        if passed > 0.0:
            self.carried += self.load * passed
            self.left -= self.rate * passed
        self.since = now

    def _tally(self, flows: Ints, sign: int) -> None:
        pair = self.loads.pair[flows]
        np.add.at(self.count, pair, float(sign))
        change = self._mark[pair].sum(dtype=np.uint64)
        with np.errstate(over="ignore"):
            self._key = self._key + change if sign > 0 else self._key - change
        self.changed = True

    def _rates(self) -> _Rates:
        key = int(self._key)
        seen = self._known.get(key)
        if seen is not None and np.array_equal(seen.count, self.count):
            return seen
        loads, pairs = self.loads, np.flatnonzero(self.count)
        count, first = self.count[pairs], np.zeros(len(pairs) + 1, dtype=np.int64)
        np.cumsum(loads.first[pairs + 1] - loads.first[pairs], out=first[1:])
        entry = places(loads.first, pairs)
        link, share = loads.link[entry], loads.share[entry]
        found = max_min(first, link, share, count, loads.capacity)
        load: Floats = np.zeros(len(loads.capacity))
        np.add.at(load, link, share * np.repeat(count * found, np.diff(first)))
        self.peak = np.maximum(self.peak, load / loads.capacity)
        rate = np.zeros(len(self.count))
        rate[pairs] = found
        if len(self._known) * (2 * rate.nbytes + load.nbytes) > REMEMBERED:
            self._known.clear()
        self._known[key] = _Rates(count=self.count.copy(), rate=rate, load=load)
        return self._known[key]


class Wire:
    """A pair of chips on whose links nobody else is at the time: its flows have equal parts of one rate.

    ``served`` counts the bytes that a flow which was always there would have got, so that a flow ends when that has
    grown by its size, whoever comes and goes.
    """

    __slots__ = ("_flows", "_since", "busy", "due", "rate", "served")

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.served, self._since, self.due, self.busy = 0.0, 0.0, np.inf, 0.0
        self._flows: list[tuple[float, int]] = []

    def add(self, now: float, flow: int, size: float) -> None:
        """A flow that begins."""
        self._advance(now)
        heapq.heappush(self._flows, (self.served + size, flow))
        self._next(now)

    def drain(self, now: float) -> list[int]:
        """Flows that have ended by now, which leave."""
        self._advance(now)
        gone = [heapq.heappop(self._flows)[1]]
        slack = now * TIE * self.rate
        while self._flows and (self._flows[0][0] - self.served) * len(self._flows) <= slack:
            gone.append(heapq.heappop(self._flows)[1])
        self._next(now)
        return gone

    def leave(self, now: float) -> list[tuple[int, float]]:
        """All flows, with the bytes that each has left."""
        self._advance(now)
        left = [(flow, max(until - self.served, 0.0)) for until, flow in self._flows]
        self._flows, self.due = [], np.inf
        return left

    def _advance(self, now: float) -> None:
        if self._flows:
            self.served += self.rate / len(self._flows) * (now - self._since)
            self.busy += now - self._since
        else:
            self.served = 0.0
        self._since = now

    def _next(self, now: float) -> None:
        flows = self._flows
        self.due = now + max(flows[0][0] - self.served, 0.0) * len(flows) / self.rate if flows else np.inf


def places(first: Ints, which: Ints) -> Ints:
    """Where the entries ``first[k]`` to ``first[k + 1] - 1`` of all k of ``which`` are, one after another."""
    low = first[which]
    size = first[which + 1] - low
    ends = np.cumsum(size)
    total = int(ends[-1]) if len(ends) else 0
    found: Ints = np.arange(total) + np.repeat(low - ends + size, size)
    return found


def ranges(first: Ints, values: NDArray[T], which: Ints) -> NDArray[T]:
    """``values[first[k]:first[k + 1]]`` of all k of ``which``, one after another."""
    picked: NDArray[T] = values[places(first, which)]
    return picked
