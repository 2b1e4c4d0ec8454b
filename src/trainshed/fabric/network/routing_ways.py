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
        self.inward = np.argsort(self.head, kind="stable")
        self.into = np.searchsorted(self.head[self.inward], np.arange(self.size + 1))
        self.place = np.full(network.nodes, -1)
        self.place[self.nodes] = np.arange(self.size)


class Distances:
    """From all nodes to a few targets: links, then the sum of their levels, and how many ways are as short as that."""

    def __init__(self, core: Core, targets: Ints, wanted: Ints) -> None:
        """``targets``: nodes of the core; once all ``wanted`` places (target, node) are reached the search stops."""
        self.core, places = core, len(targets) * core.size
        self.hops: NDArray[np.int16] = np.full(places, -1, dtype=np.int16)
        self.levels: NDArray[np.int32] = np.zeros(places, dtype=np.int32)
        self.count: Floats = np.zeros(places)
        front = np.arange(len(targets)) * core.size + targets
        self.hops[front], self.count[front] = 0, 1.0
        away = 0
        while len(front) and (self.hops[wanted] < 0).any():
            away += 1
            front = self._outwards(front, away)

    def _outwards(self, front: Ints, away: int) -> Ints:
        """One link further away from the targets."""
        core = self.core
        entry, row = expand(core.into, front % core.size)
        link = core.inward[entry]
        place = front[row] - front[row] % core.size + core.tail[link]
        new = self.hops[place] < 0
        place, link, row = place[new], link[new], row[new]
        if not len(place):
            return np.zeros(0, np.int64)
        levels = self.levels[front[row]] + core.weight[link]
        order = np.lexsort((levels, place))
        place, levels, count = place[order], levels[order], self.count[front[row]][order]
        start = np.flatnonzero(np.r_[True, place[1:] != place[:-1]])
        least = np.repeat(levels[start], np.diff(np.r_[start, len(place)]))
        found: Ints = place[start]
        self.hops[found], self.levels[found] = away, levels[start]
        self.count[found] = np.add.reduceat(np.where(levels == least, count, 0.0), start)
        return found

    def onward(self, place: Ints) -> tuple[Ints, Ints, Ints, Floats]:
        """Links on shortest ways onwards: link of the core, row of ``place``, place reached, part of the ways."""
        core = self.core
        ports = np.cumsum(core.out[place % core.size + 1] - core.out[place % core.size])
        cuts = np.searchsorted(ports, np.arange(CHUNK, ports[-1], CHUNK)) if len(ports) else np.zeros(0, np.int64)
        bounds = [0, *cuts.tolist(), len(place)]
        parts = [self._onward(place[a:b], a) for a, b in pairwise(bounds) if a < b]
        link, row, to = (np.concatenate(column) for column in zip(*parts, strict=True))
        return link, row, to, self.count[to] / self.count[place[row]]

    def _onward(self, place: Ints, first: int) -> tuple[Ints, Ints, Ints]:
        core = self.core
        link, row = expand(core.out, place % core.size)
        at = place[row]
        to = at - at % core.size + core.head[link]
        tight = (self.hops[to] >= 0) & (self.hops[to] + 1 == self.hops[at])
        tight &= self.levels[to] + core.weight[link] == self.levels[at]
        return link[tight], row[tight] + first, to[tight]
