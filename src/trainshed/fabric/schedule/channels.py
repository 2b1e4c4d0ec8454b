"""Rings over several cycles at once, as the channels of a collective library use a torus, a board, or several of them.

A 4 x 4 torus falls into two cycles through all chips that share no link; each is driven both ways round, so that four
rings carry a quarter of the buffer each. Source: aws-neuron-sdk, "Intra-node Collective Communications" (rings over all
links); Kotzig 1973: a torus of two dimensions is the sum of two Hamiltonian cycles.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from trainshed.fabric.network.graph import Network
from trainshed.fabric.schedule.gather import Gather
from trainshed.fabric.schedule.steps import Ints, Step

#: Chips up to which cycles are searched for, and cycles looked at before the search ends.
CHIPS, TRIES = 16, 20_000
#: Draws of the chips where rings enter and leave a domain, of which the most even one counts.
DRAWS = 64


def rings(orders: Sequence[Ints]) -> Gather:
    """A ring along each order of the ranks, each with its own piece of every rank's part."""
    if not orders or len(orders[0]) < 2:
        return Gather(steps=(), pieces=max(len(orders), 1))
    pieces, ranks = len(orders), len(orders[0])
    source = np.concatenate(orders)
    target = np.concatenate([np.roll(order, -1) for order in orders])
    steps = []
    for k in range(ranks - 1):
        slot = np.concatenate([pieces * np.roll(order, k) + piece for piece, order in enumerate(orders)])
        steps.append(Step(source=source, target=target, slot=slot, to=slot))
    return Gather(steps=tuple(steps), pieces=pieces)


def over_domains(inside: Sequence[Ints], domains: int, each: int, *, mirrored: bool) -> list[Ints]:
    """Orders through ``domains`` of chips in a row, ``each`` along every one of the cycles ``inside`` a domain.

    ``mirrored``: every other domain the other way round, so that a ring goes on where it left (tori joined by links
    between chips at the same place); needs an even number of domains to close.
    """
    chips, random = len(inside[0]), np.random.default_rng(0)
    best: list[Ints] = []
    fewest = 2 * each * len(inside) + 1
    for _ in range(DRAWS):
        paths, enter, leave = [], np.zeros(chips, np.int64), np.zeros(chips, np.int64)
        for cycle in [*inside] * each:
            before = np.roll(cycle, 1)
            load = np.maximum(enter[cycle], leave[before]) + random.random(chips) / 2
            path = np.roll(cycle, -int(load.argmin()))
            enter[path[0]] += 1
            leave[path[-1]] += 1
            paths.append(path)
        if enter.max() + leave.max() < fewest:
            best, fewest = paths, int(enter.max() + leave.max())
    return [
        np.concatenate([d * chips + (path[::-1] if mirrored and d % 2 else path) for d in range(domains)])
        for path in best
    ]


def cycles(network: Network, chips: int | None = None) -> list[Ints]:
    """Orders of all chips, or the first ``chips``, along link-disjoint cycles of links between them, both ways round;
    none where none is found.

    Looks for as many cycles as the chip with the fewest neighbours allows, then for fewer.
    """
    n = network.chips if chips is None else chips
    if not 3 <= n <= CHIPS:
        return []
    between = (network.source < n) & (network.target < n) & (network.source != network.target)
    free = np.zeros((n, n), np.int64)
    np.add.at(free, (network.source[between], network.target[between]), 1)
    free = np.minimum(free, free.T)
    for count in range(int(free.sum(axis=1).min()) // 2, 0, -1):
        found = _disjoint(free.copy(), count, [TRIES])
        if found is not None:
            return [order for cycle in found for order in (cycle, cycle[::-1].copy())]
    return []


def _disjoint(free: Ints, count: int, left: list[int]) -> list[Ints] | None:
    """So many cycles that share no link; None: not found."""
    if count == 0:
        return []
    for cycle in _through_all(free):
        left[0] -= 1
        if left[0] < 0:
            return None
        ends = cycle, np.roll(cycle, -1)
        rest = free.copy()
        np.add.at(rest, ends, -1)
        np.add.at(rest, ends[::-1], -1)
        further = _disjoint(rest, count - 1, left)
        if further is not None:
            return [cycle, *further]
    return None


def _through_all(free: Ints) -> Iterator[Ints]:
    """Cycles through all chips, from chip 0 on."""
    n = len(free)
    near = [np.flatnonzero(row).tolist() for row in free]
    path, seen = [0], {0}
    choices = [iter(near[0])]
    while choices:
        chip = next((c for c in choices[-1] if c not in seen), None)
        if chip is None:
            choices.pop()
            seen.discard(path.pop())
        elif len(path) == n - 1:
            if free[chip, 0]:
                yield np.array([*path, chip])
        else:
            path.append(chip)
            seen.add(chip)
            choices.append(iter(near[chip]))
