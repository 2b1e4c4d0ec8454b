"""Ways to gather: every rank starts with its own slots and ends with everybody's.

Backwards, with additions, the same sends are a reduce_scatter; both in turn an all_reduce (``compose.py``). Rank r owns
slots r·pieces to (r + 1)·pieces − 1. Every way works for any number of ranks.

Sources: Thakur, Rabenseifner, Gropp, "Optimization of Collective Communication Operations in MPICH", 2005 (ring,
recursive doubling); Bruck et al., "Efficient Algorithms for All-to-All Communications in Multiport Message-Passing
Systems", 1997; AWS, "Intra-node Collective Communications with AWS Neuron" (mesh, KangaRing).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trainshed.fabric.schedule.steps import Ints, Step


@dataclass(frozen=True, kw_only=True)
class Gather:
    """The steps of a gather, and in how many pieces each rank's part goes."""

    steps: tuple[Step, ...]
    pieces: int = 1


Way = Callable[[int], Gather]


def ring(ranks: int) -> Gather:
    """Each passes on to the next rank what it got from the last: n − 1 times S/n."""
    r = np.arange(ranks)
    step = Step(source=r, target=(r + 1) % ranks, slot=r, to=r, repeat=ranks - 1, shift=-1, wrap=ranks)
    return Gather(steps=(step,) if ranks > 1 else ())


def bidirectional_ring(ranks: int) -> Gather:
    """Two rings at once, one each way round, each with half of everything."""
    if ranks == 1:
        return Gather(steps=(), pieces=2)
    r = np.arange(ranks)
    steps = [
        Step(source=r, target=(r + way) % ranks, slot=2 * r + half, to=2 * r + half, repeat=ranks - 1,
             shift=-2 * way, wrap=2 * ranks)
        for half, way in enumerate((1, -1))
    ]  # fmt: skip
    return Gather(steps=tuple(steps), pieces=2)


def mesh(ranks: int) -> Gather:
    """Everyone sends its own to everyone else at once."""
    source, target = others(ranks)
    return Gather(steps=(Step(source=source, target=target, slot=source, to=source),) if ranks > 1 else ())


def others(ranks: int) -> tuple[Ints, Ints]:
    """All pairs of different ranks, next ones first, so that ranks that issue in this order do not begin alike."""
    source = np.tile(np.arange(ranks), ranks - 1)
    return source, (source + np.repeat(np.arange(1, ranks), ranks)) % ranks


def doubling(ranks: int) -> Gather:
    """Recursive doubling: partners half of the ranks apart first, next to each other last, when most is exchanged.

    Beyond a power of two p, rank p + i hands its own to rank i before and gets everything from it after.
    """
    power = 1 << (ranks.bit_length() - 1)
    rest = np.arange(ranks - power)
    steps = [Step(source=power + rest, target=rest, slot=power + rest, to=power + rest)] if len(rest) else []
    r, stride = np.arange(power), power
    while stride > 1:
        # rank r has all slots that equal r modulo the stride, and those handed to their ranks
        first, own = r % stride, np.arange(0, power, stride)
        handed = -((first - len(rest)) // stride)
        for extra in np.unique(np.maximum(handed, 0)):
            who = np.flatnonzero(np.maximum(handed, 0) == extra)
            offsets = np.concatenate([own, power + stride * np.arange(extra)])
            slot = first[who]
            steps.append(Step(source=r[who], target=who ^ (stride // 2), slot=slot, to=slot, offsets=offsets))
        stride //= 2
    if len(rest):
        slot = (power + rest[:, None] + np.arange(1, ranks)) % ranks
        steps.append(Step(source=rest, target=power + rest, slot=slot, to=slot))
    return Gather(steps=tuple(steps))


def bruck(ranks: int) -> Gather:
    """⌈log2 n⌉ steps for any n: twice as much each time, to the rank 1, 2, 4, … before."""
    r, near, steps = np.arange(ranks), 1, []
    while near < ranks:
        slot = (r[:, None] + np.arange(min(near, ranks - near))) % ranks
        steps.append(Step(source=r, target=(r - near) % ranks, slot=slot, to=slot))
        near *= 2
    return Gather(steps=tuple(steps))


def kangaring(ranks: int) -> Gather:
    """AWS's KangaRing: a ring over chips; of two ranks on a chip the first carries both parts and hands on what comes.

    Ranks 2c and 2c + 1 share chip c. The ring has half of the steps, and each chip's bytes cross a link once.
    """
    chips, odd = (ranks + 1) // 2, ranks % 2
    first = 2 * np.arange(ranks // 2)
    steps = [_swap(first)] if len(first) else []
    c = np.arange(chips)
    if not odd:
        steps += [
            Step(source=2 * c, target=to % ranks, slot=slot, to=slot, offsets=np.arange(2), repeat=chips - 1,
                 shift=-2, wrap=ranks)
            for to, slot in ((2 * c + 2, 2 * c), (2 * c + 1, 2 * c - 2 + ranks * (c == 0)))
        ] if chips > 1 else []  # fmt: skip
        return Gather(steps=tuple(steps))
    for k in range(chips - 1):
        carried = (c - k) % chips
        steps += _one_or_two(2 * c, 2 * ((c + 1) % chips), carried, chips)
        steps += _one_or_two(first, first + 1, (carried[:-1] - 1) % chips, chips)
    return Gather(steps=tuple(steps))


def _swap(first: Ints) -> Step:
    """The two ranks of each chip give each other their own."""
    both = np.concatenate([first, first + 1])
    return Step(source=both, target=both ^ 1, slot=both, to=both)


def _one_or_two(source: Ints, target: Ints, carried: Ints, chips: int) -> list[Step]:
    """Sends of the two slots of each carried chip; the last chip has but one."""
    found = []
    for alone in (False, True):
        who = np.flatnonzero((carried == chips - 1) == alone)
        slot = 2 * carried[who]
        if len(who):
            found.append(Step(source=source[who], target=target[who], slot=slot, to=slot,
                              offsets=np.arange(1 if alone else 2)))  # fmt: skip
    return found


WAYS: dict[str, Way] = {
    "ring": ring, "bidirectional_ring": bidirectional_ring, "kangaring": kangaring, "mesh": mesh, "rhd": doubling,
    "bruck": bruck,
}  # fmt: skip
