"""The links a message may take, scope by scope, and the shortest ways in them.

A message stays as far inside as it can: it takes links of the innermost levels that connect its ends. Chips forward on
levels of direct links and behind scale-up switches, as NeuronLink's address routing does; they do not forward onto a
scale-out network unless nothing else is left. Among these ways the shortest count, and of those the ones that keep
to inner levels: through the sled's switch, not the rack's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainshed.fabric.network.graph import Floats, Ints, Network

PEELS = 4
"""Rounds in which nodes with one neighbour are taken off a graph (chip, adapter, leaf)."""
CHUNK = 4_000_000
"""Places of the tables of distances that are held at once."""


def scopes(network: Network) -> Iterator[Ints]:
    """Links by scope: levels from within; a scale-out level alone; at last all."""
    seen: list[int] = []
    useful = network.source != network.target
    for k, name in enumerate(network.levels):
        if name in network.scale_out:
            yield np.flatnonzero(useful & (network.level == k))
        else:
            seen.append(k)
            yield np.flatnonzero(useful & np.isin(network.level, seen))
    yield np.flatnonzero(useful)


def axis(network: Network) -> Ints:
    """``[links]`` along which dimension of a torus a link goes (0 x, 1 y, 2 z), 0 where there is none."""
    out = np.zeros(network.links, dtype=np.int64)
    between = (network.source < network.chips) & (network.target < network.chips)
    one, other = network.source[between], network.target[between]
    along = np.zeros(len(one), dtype=np.int64)
    for k, name in reversed(list(enumerate("xyzw"))):
        if name in network.coordinates:
            along[network.coordinates[name][one] != network.coordinates[name][other]] = k
    out[between] = along
    return out


def expand(first: Ints, rows: Ints) -> tuple[Ints, Ints]:
    """Entries of the given rows of a CSR, and which row of ``rows`` each is of."""
    count = first[rows + 1] - first[rows]
    row = np.repeat(np.arange(len(rows)), count)
    return np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first[rows], count), row


@dataclass(frozen=True, eq=False)
class Ways:
    """One scope: its links, without the trees that hang on it, whose ways are forced."""

    network: Network
    links: Ints

    @cached_property
    def part(self) -> Ints:
        """``[nodes]`` the least node that each is joined to, whichever way the links go."""
        source, target = self.network.source[self.links], self.network.target[self.links]
        part = np.arange(self.network.nodes)
        while True:
            least = part.copy()
            np.minimum.at(least, source, part[target])
            np.minimum.at(least, target, part[source])
            least = least[least]
            if (least == part).all():
                return part
            part = least

    @cached_property
    def trees(self) -> tuple[Ints, Ints, Ints, Ints]:
        """``[nodes]`` depth below the core (0: in it), parent, link to it, link from it (−1: none)."""
        nodes = self.network.nodes
        depth, parent = np.zeros(nodes, np.int64), np.full(nodes, -1)
        up, down = np.full(nodes, -1), np.full(nodes, -1)
        peeled: list[Ints] = []
        left = self.links
        for _ in range(PEELS):
            source, target = self.network.source[left], self.network.target[left]
            onto, back, last, into = (np.full(nodes, -1) for _ in range(4))
            onto[source], last[source] = target, left
            back[target], into[target] = source, left
            once = (np.bincount(source, minlength=nodes) == 1) & (np.bincount(target, minlength=nodes) == 1)
            leafs = np.flatnonzero(once & (onto == back))
            leafs = leafs[~(once[onto[leafs]] & (onto == back)[onto[leafs]]) | (leafs > onto[leafs])]
            if not len(leafs):
                break
            parent[leafs], up[leafs], down[leafs] = onto[leafs], last[leafs], into[leafs]
            peeled.append(leafs)
            gone = np.zeros(nodes, bool)
            gone[leafs] = True
            left = left[~gone[source] & ~gone[target]]
        for leafs in reversed(peeled):
            depth[leafs] = depth[parent[leafs]] + 1
        return depth, parent, up, down

    @cached_property
    def core(self) -> Core:
        """The rest of the graph."""
        depth = self.trees[0]
        inside = (depth[self.network.source[self.links]] == 0) & (depth[self.network.target[self.links]] == 0)
        return Core(self.network, self.links[inside])


class Core:
    """Links as two CSRs over the nodes they touch."""

    def __init__(self, network: Network, links: Ints) -> None:
        source, target = network.source[links], network.target[links]
        self.nodes, ends = np.unique(np.concatenate([source, target]), return_inverse=True)
        self.size = len(self.nodes)
        ends = ends.reshape(2, -1)
        order = np.lexsort((links, axis(network)[links], ends[0]))
        self.link, self.tail, self.head = links[order], ends[0][order], ends[1][order]
        self.weight = network.level[self.link]
        self.out = np.searchsorted(self.tail, np.arange(self.size + 1))
        self.inward = np.lexsort((self.weight, self.tail, self.head))
        self.into = np.searchsorted(self.head[self.inward], np.arange(self.size + 1))
        self.place = np.full(network.nodes, -1)
        self.place[self.nodes] = np.arange(self.size)

    def alike(self, targets: Ints) -> tuple[Ints, Ints]:
        """One of each kind of targets, and the kind of each: a kind is reached by like links from the same nodes."""
        tail, weight = self.tail[self.inward], self.weight[self.inward]
        kinds: dict[tuple[bytes, bytes], int] = {}
        kind = np.empty(len(targets), dtype=np.int64)
        for k, (a, b) in enumerate(zip(self.into[targets].tolist(), self.into[targets + 1].tolist(), strict=True)):
            kind[k] = kinds.setdefault((tail[a:b].tobytes(), weight[a:b].tobytes()), len(kinds))
        return targets[np.unique(kind, return_index=True)[1]], kind


class Distances:
    """From all nodes to targets of some kinds: links, then the sum of their levels, and how many ways are that short.

    The last link of a way, the one into the target, is counted but left open: its end is any target of the kind.
    """

    def __init__(self, core: Core, targets: Ints, wanted: Ints) -> None:
        """``targets``: one node of each kind; once all ``wanted`` places (kind, node) are reached the search stops."""
        self.core, places = core, len(targets) * core.size
        self.hops: NDArray[np.int16] = np.zeros(places, dtype=np.int16)
        """0: not reached."""
        self.levels: NDArray[np.int32] = np.zeros(places, dtype=np.int32)
        self.count: Floats = np.zeros(places)
        entry, row = expand(core.into, targets)
        link = core.inward[entry]
        front = self._reached(row * core.size + core.tail[link], core.weight[link], np.ones(len(link)), 1)
        away = 1
        while len(front) and (self.hops[wanted] == 0).any():
            away += 1
            front = self._outwards(front, away)

    def _outwards(self, front: Ints, away: int) -> Ints:
        """One link further away from the targets."""
        core = self.core
        entry, row = expand(core.into, front % core.size)
        link = core.inward[entry]
        place = front[row] - front[row] % core.size + core.tail[link]
        new = self.hops[place] == 0
        place, link, before = place[new], link[new], front[row[new]]
        return self._reached(place, self.levels[before] + core.weight[link], self.count[before], away)

    def _reached(self, place: Ints, levels: Ints, count: Floats, away: int) -> Ints:
        """Ways to places that no shorter ones lead to; of several to one place those of the least levels count."""
        if not len(place):
            return place
        order = np.lexsort((levels, place))
        place, levels, count = place[order], levels[order], count[order]
        start = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
        least = np.repeat(levels[start], np.diff(np.r_[start, len(place)]))
        found: Ints = place[start]
        self.hops[found], self.levels[found] = away, levels[start]
        self.count[found] = np.add.reduceat(np.where(levels == least, count, 0.0), start)
        return found

    def onward(self, place: Ints, goal: Ints) -> tuple[Ints, Ints, Ints, Floats]:
        """Links on shortest ways onwards: link of the core, row of ``place``, place reached, part of the ways.

        ``goal``: the target of each place, node of the core.
        """
        core = self.core
        ports = np.cumsum(core.out[place % core.size + 1] - core.out[place % core.size])
        cuts = np.searchsorted(ports, np.arange(CHUNK, ports[-1], CHUNK)) if len(ports) else np.zeros(0, np.int64)
        bounds = [0, *cuts.tolist(), len(place)]
        parts = [self._onward(place[a:b], goal[a:b], a) for a, b in pairwise(bounds) if a < b]
        link, row, to = (np.concatenate(column) for column in zip(*parts, strict=True))
        at = place[row]
        return link, row, to, np.where(self.hops[at] == 1, 1.0, self.count[to]) / self.count[at]

    def _onward(self, place: Ints, goal: Ints, first: int) -> tuple[Ints, Ints, Ints]:
        core = self.core
        link, row = expand(core.out, place % core.size)
        at = place[row]
        to = at - at % core.size + core.head[link]
        last = self.hops[at] == 1
        nearer = (self.hops[to] + 1 == self.hops[at]) & (self.levels[to] + core.weight[link] == self.levels[at])
        into = (core.head[link] == goal[row]) & (core.weight[link] == self.levels[at])
        tight = np.where(last, into, nearer)
        return link[tight], row[tight] + first, to[tight]
