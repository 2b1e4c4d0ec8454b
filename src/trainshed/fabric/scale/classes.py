"""Sends that nothing can tell apart are timed once: exact, for any set of sends on any network.

Colour refinement (Berkholz, Bonsma, Grohe, Theory of Computing Systems 60, 2017) of sends, pairs of chips, links and
chips: two have one colour as long as their own figures and the colours of all they touch are the same: a send its way
and those that it waits for, a way its links and sends, a link the ways over it. When no colour splits any more the
partition is equitable: every link of a class carries as much of each class of sends as the others, so that max-min
rates, and by induction over time all that happens, are the same within a class (Grohe, Kersting, Mladenov, Selman,
"Dimension reduction via colour refinement", ESA 2014, for linear programs). One send of each class and one link of each
is then again a set of sends on loads, which the clock of ``flow.fair`` runs as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trainshed.fabric.flow.fair import Clock
from trainshed.fabric.flow.loads import Loads, loads
from trainshed.fabric.flow.sends import Floats, Ints, Run, Sends, Transport
from trainshed.fabric.flow.shares import ranges
from trainshed.fabric.network.graph import Network

Colours = NDArray[np.uint64]


@dataclass(frozen=True)
class Symmetric:
    """The flow model (``Model``), each class of sends timed once: the same answers as ``flow.fair.Flow``."""

    def run(self, network: Network, sends: Sends, transport: Transport, *, routing: str = "spray") -> Run:
        """Time all sends. UserError as ``Flow``."""
        return Classes.of(sends, loads(network, sends, transport, routing)).run()


@dataclass(frozen=True, kw_only=True, eq=False)
class Classes:
    """One send, pair of chips, link and chip of each class."""

    sends: Sends
    loads: Loads
    send: Ints
    """``[sends before]`` the class of each."""
    link: Ints
    """``[links before]`` the class of each, −1 where no byte passes."""

    @staticmethod
    def of(sends: Sends, ways: Loads) -> Classes:
        """The coarsest equitable partition."""
        return _quotient(sends, ways, *_refined(sends, ways))

    def run(self) -> Run:
        """When all sends happen, and what all links carry."""
        run = Clock(self.sends, self.loads).run()
        carried, peak = (
            np.where(self.link >= 0, column[self.link] if len(column) else 0.0, 0.0)
            for column in (run.carried, run.peak)
        )
        return Run(begin=run.begin[self.send], end=run.end[self.send], carried=carried, peak=peak)


def _refined(sends: Sends, ways: Loads) -> tuple[Ints, Ints, Ints, Ints]:
    """Colours of sends, pairs, links (ending in those of engines) and chips, as numbers from 0."""
    issues = bool(ways.message.any())
    by_pair, place_on_pair = _grouped(ways.pair)
    by_chip, place_on_chip = _grouped(sends.source)
    pair_first = _first(ways.pair, len(ways.first) - 1)
    chips = int(sends.source.max(initial=-1)) + 1
    chip_first = _first(sends.source, chips)
    owner = np.repeat(np.arange(len(ways.first) - 1), np.diff(ways.first))
    by_link = np.argsort(ways.link, kind="stable")
    link_first = _first(ways.link, len(ways.capacity))
    part = _number(ways.share)

    send = _mixed(_number(sends.size), _number(ways.start), _number(ways.finish), place_on_pair)
    pair = _mixed(_number(ways.latency), _number(ways.hop), _number(ways.message))
    link = _number(ways.capacity)
    chip = np.zeros(chips, np.uint64)
    classes = -1
    while True:
        pair = _mixed(
            pair, _sums(ways.first, _mixed(part, link[ways.link])), _sums(pair_first, _mixed(send[by_pair]))
        )  # fmt: skip
        link = _mixed(link, _sums(link_first, _mixed(part, pair[owner])[by_link]))
        send = _mixed(send, pair[ways.pair], _sums(sends.first, _mixed(send[sends.before])))
        if issues:
            on_chip = _mixed(send, place_on_chip)
            chip = _mixed(chip, _sums(chip_first, on_chip[by_chip]))
            send = _mixed(on_chip, chip[sends.source])
        numbers = tuple(np.unique(c, return_inverse=True)[1].astype(np.int64) for c in (send, pair, link, chip))
        before, classes = classes, sum(int(n.max(initial=-1)) + 1 for n in numbers)
        if classes == before:
            return numbers[0], numbers[1], numbers[2], numbers[3]


def _quotient(sends: Sends, ways: Loads, send: Ints, pair: Ints, link: Ints, chip: Ints) -> Classes:
    """One of each class. A pair's share of a link becomes what its whole class puts on each link of that class."""
    pairs, at, many = np.unique(pair, return_index=True, return_counts=True)
    used = np.zeros(len(ways.capacity), dtype=bool)
    used[ways.link] = True
    links, first_link, kin = np.unique(link[used], return_index=True, return_counts=True)
    of_link = np.full(len(link), -1)
    of_link[used] = np.searchsorted(links, link[used])
    capacity = ways.capacity[used][first_link]

    size = np.diff(ways.first)[at]
    entry = np.repeat(pairs, size) * max(len(links), 1) + of_link[ranges(ways.first, ways.link, at)]
    entry, together = np.unique(entry, return_inverse=True)
    passes = np.bincount(together, weights=ranges(ways.first, ways.share, at), minlength=len(entry))
    owner, over = entry // max(len(links), 1), entry % max(len(links), 1)
    share = passes * many[owner] / kin[over]

    # the sends of the chosen pairs are one of each class: a pair has no two alike, and its class has the same ones
    chosen = np.flatnonzero(np.isin(ways.pair, at))
    if ways.message.any():
        chosen = chosen[np.argsort(_grouped(sends.source)[1][chosen], kind="stable")]
    place = np.empty(int(send.max(initial=-1)) + 1, np.int64)
    place[send[chosen]] = np.arange(len(chosen))
    earlier = ranges(sends.first, sends.before, chosen)
    first = np.concatenate(([0], np.cumsum(np.diff(sends.first)[chosen])))
    few = Sends(
        source=chip[sends.source[chosen]], target=sends.target[chosen], size=sends.size[chosen], first=first,
        before=place[send[earlier]], earliest=sends.earliest[chosen], group=sends.group[chosen],
    )  # fmt: skip
    quotient = replace(
        ways, pair=pair[ways.pair[chosen]], first=_first(owner, len(pairs)), link=over, share=share, capacity=capacity,
        links=len(capacity), latency=ways.latency[at], hop=ways.hop[at], message=ways.message[at],
        start=ways.start[chosen], finish=ways.finish[chosen],
    )  # fmt: skip
    return Classes(sends=few, loads=quotient, send=place[send], link=of_link[: ways.links])


def _grouped(column: Ints) -> tuple[Ints, Ints]:
    """The order by value, and the place of each among those of its value, by number."""
    order = np.argsort(column, kind="stable")
    place = np.empty_like(order)
    sorted_column = column[order]
    place[order] = np.arange(len(column)) - np.searchsorted(sorted_column, sorted_column)
    return order, place


def _first(column: Ints, count: int) -> Ints:
    """Where the members of each value begin once they are in order."""
    return np.concatenate(([0], np.cumsum(np.bincount(column, minlength=count))))


def _number(values: Floats) -> Colours:
    """Floats as colours: those within 1e-9 of each other are nearly always one."""
    with np.errstate(divide="ignore"):
        logs = np.where(values > 0.0, np.log(np.maximum(values, 1e-300)), -1e6)
    return np.asarray(np.rint(logs * 1e9).astype(np.int64).view(np.uint64))


def _mixed(*columns: NDArray[np.generic]) -> Colours:
    """One colour for each row (splitmix64's finaliser over the columns in turn)."""
    out = np.full(len(columns[0]), 0x9E3779B97F4A7C15, np.uint64)
    with np.errstate(over="ignore"):
        for column in columns:
            x = (out ^ column.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            out = x ^ (x >> np.uint64(31))
    return out


def _sums(first: Ints, colours: Colours) -> Colours:
    """A colour for each bag of colours ``first[k]:first[k + 1]``: their sum, which knows no order."""
    total = np.concatenate((np.zeros(1, np.uint64), np.cumsum(colours, dtype=np.uint64)))
    with np.errstate(over="ignore"):
        return np.asarray(total[first[1:]] - total[first[:-1]])
