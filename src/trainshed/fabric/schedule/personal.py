"""Data that differ for every pair: permute, and all_to_all with equal or given counts.

Slot i of a rank is what it has for rank i, and in the end what it got from rank i. With ``counts`` (``[ranks, ranks]``
what each has for each, in any unit) the collective's size is what a rank sends on average, its own part included, and
a pair without anything sends nothing: MPI's alltoallv. Slots stay equal, for the largest; only bytes follow counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from trainshed.core import UserError
from trainshed.fabric.schedule.gather import others
from trainshed.fabric.schedule.reductions import levels_of
from trainshed.fabric.schedule.registry import algorithm
from trainshed.fabric.schedule.steps import Floats, Schedule, Step


@algorithm("permute", "direct")
def permute(ranks: int, partner: ArrayLike | None = None) -> Schedule:
    """Each rank sends its buffer to ``partner[rank]``, without it to the next rank around."""
    r = np.arange(ranks)
    to = (r + 1) % ranks if partner is None else np.asarray(partner)
    if to.shape != (ranks,) or not np.array_equal(np.sort(to), r):
        raise UserError("partner", where="permute", value=np.asarray(to).tolist(),
                        expected=f"each of the ranks 0 to {ranks - 1} once")  # fmt: skip
    moving = np.flatnonzero(to != r)
    zero = np.zeros_like(moving)
    steps = (Step(source=moving, target=to[moving], slot=zero, to=zero),) if len(moving) else ()
    return Schedule(kind="permute", algorithm="", ranks=ranks, slots=1, slot_share=1.0, steps=steps, partner=to)


def shares_of(ranks: int, counts: ArrayLike | None, where: str) -> Floats | None:
    """``[ranks, ranks]`` what each pair has relative to what a rank has for all on average; None if all are equal."""
    if counts is None:
        return None
    given = np.asarray(counts, dtype=np.float64)
    if given.shape != (ranks, ranks):
        raise UserError("counts", where=where, value=given.shape, expected=f"a table of {ranks} × {ranks} ranks")
    if not (np.isfinite(given) & (given >= 0)).all() or not given.any():
        raise UserError("counts", where=where, value=float(given.min()), expected="at least 0, and not all 0")
    return np.asarray(given / (given.sum() / ranks))


def _all_to_all(ranks: int, steps: list[Step], counts: Floats | None) -> Schedule:
    return Schedule(kind="all_to_all", algorithm="", ranks=ranks, slots=ranks, slot_share=1.0 / ranks,
                    steps=tuple(steps), counts=counts)  # fmt: skip


@algorithm("all_to_all", "direct")
def direct(ranks: int, counts: ArrayLike | None = None) -> Schedule:
    """Each rank sends to each other what it has for it, all at once: S/n, or as ``counts`` say."""
    source, target = others(ranks)
    shares = shares_of(ranks, counts, "direct all_to_all")
    weight = None
    if shares is not None:
        busy = shares[source, target] > 0
        source, target = source[busy], target[busy]
        weight = ranks * shares[source, target]
    steps = [Step(source=source, target=target, slot=target, to=source, weight=weight)] if len(source) else []
    return _all_to_all(ranks, steps, shares)


@algorithm("all_to_all", "hierarchical")
def by_levels(ranks: int, levels: Sequence[int] | None = None, counts: ArrayLike | None = None) -> Schedule:
    """Level by level, innermost first: to each member of one's group all that is for ranks with its place there (AWS).

    After a level, that digit of a slot's number tells where its data came from instead of where they go.
    """
    fans = levels_of(ranks, levels, where="hierarchical all_to_all")
    shares, inner, steps = shares_of(ranks, counts, "hierarchical all_to_all"), 1, []
    for level, fan in enumerate(fans):
        r = np.repeat(np.arange(ranks), fan - 1)
        mine = r // inner % fan
        other = (mine + np.tile(np.arange(1, fan), ranks)) % fan
        target = r + (other - mine) * inner
        offsets = (np.arange(inner) + inner * fan * np.arange(ranks // (inner * fan))[:, None]).reshape(-1)
        weight = None
        if shares is not None:
            weight = fan * _relayed(shares, fans, level)[r, other]
            busy = weight > 0
            r, mine, other, target, weight = (column[busy] for column in (r, mine, other, target, weight))
        if len(r):
            steps.append(Step(source=r, target=target, slot=inner * other, to=inner * mine, offsets=offsets,
                              weight=weight))  # fmt: skip
        inner *= fan
    return _all_to_all(ranks, steps, shares)


def _relayed(shares: Floats, fans: Sequence[int], level: int) -> Floats:
    """``[ranks, fan]`` what a rank passes on at a level to each place: from all ranks that differ from it only further
    in, to all ranks that differ from it only there or further out."""
    ranks, inner, fan = len(shares), int(np.prod(fans[:level])), fans[level]
    outer = ranks // (inner * fan)
    table = shares.reshape(outer * fan, inner, outer, fan, inner).sum(axis=(1, 2))  # [from there out, place, low]
    r = np.arange(ranks)
    return np.asarray(table[r // inner, :, r % inner])


@algorithm("all_to_all", "bruck")
def bruck(ranks: int) -> Schedule:
    """⌈log2 n⌉ sends per rank instead of n − 1, each of about S/2: for small sizes (Bruck et al. 1997).

    What has to go j ranks further moves on by 1, 2, 4, … as the bits of j say; it waits in scratch slot j.
    """
    r, near, steps = np.arange(ranks)[:, None], 1, []
    while near < ranks:
        j = np.arange(1, ranks)
        j = j[j & near > 0]
        slot = np.where(j & (near - 1) > 0, 2 * ranks + j, (r + j) % ranks)
        # the last bit of j: the data came from j before the target
        to = np.where(j < 2 * near, ranks + (r + near - j) % ranks, 2 * ranks + j)
        steps.append(Step(source=r[:, 0], target=(r[:, 0] + near) % ranks, slot=slot, to=to))
        near *= 2
    return Schedule(kind="all_to_all", algorithm="", ranks=ranks, slots=3 * ranks, slot_share=1.0 / ranks,
                    steps=tuple(steps), scratch=2 * ranks, output=ranks)  # fmt: skip
