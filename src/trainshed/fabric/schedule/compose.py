"""Schedules out of schedules: backwards, in pieces, inside groups of a hierarchy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trainshed.fabric.schedule.gather import Gather, Way
from trainshed.fabric.schedule.steps import Ints, Step


def backwards(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The sends of a gather from last to first, each the other way and added up: a reduce_scatter."""
    return tuple(_back(step) for step in reversed(steps))


def _back(step: Step) -> Step:
    last = step.time(step.repeat - 1)
    return replace(
        last, source=step.target, target=step.source, slot=last.to, to=last.slot, reduce=True, repeat=step.repeat,
        shift=-step.shift,
    )  # fmt: skip


def split(step: Step, pieces: int) -> Step:
    """The same with each slot cut into pieces."""
    if pieces == 1:
        return step
    offsets = (pieces * step.offsets[:, None] + np.arange(pieces)).reshape(-1)
    return replace(
        step, slot=pieces * step.slot, to=pieces * step.to, offsets=offsets, shift=pieces * step.shift,
        wrap=pieces * step.wrap,
    )  # fmt: skip


def hierarchy(levels: Sequence[tuple[int, Way]]) -> Gather:
    """A gather over the outermost level first, then further in: at each level one way among so many (innermost first).

    Rank r is member (r / inner) modulo fan of its group at a level, ``inner`` being the product of the fans below. What
    a rank has got at the levels above goes along as further slots of the same send.
    """
    ways = [way(fan) for fan, way in levels]
    pieces = int(np.lcm.reduce([way.pieces for way in ways])) if ways else 1
    ranks, steps = int(np.prod([fan for fan, _ in levels])), []
    inner = ranks
    for (fan, _), way in zip(reversed(levels), reversed(ways), strict=True):
        inner //= fan
        steps += [_nest(split(s, pieces // way.pieces), inner, fan, ranks // (inner * fan), pieces) for s in way.steps]
    return Gather(steps=tuple(steps), pieces=pieces)


def _nest(step: Step, inner: int, fan: int, outer: int, pieces: int) -> Step:
    """A step of ``fan`` members in each of ``outer`` · ``inner`` groups at once."""
    i, o = np.arange(inner), np.arange(outer)

    def wide(slot: Ints) -> Ints:
        own = inner * (slot - slot % pieces) + slot % pieces
        spread = own[None] + pieces * i.reshape(-1, *[1] * slot.ndim)
        return np.broadcast_to(spread, (outer, *spread.shape)).reshape(-1, *slot.shape[1:])

    def ranks(member: Ints) -> Ints:
        return np.asarray(inner * (member[None, None] + fan * o[:, None, None]) + i[None, :, None]).reshape(-1)

    offsets = inner * (step.offsets - step.offsets % pieces) + step.offsets % pieces
    return replace(
        step, source=ranks(step.source), target=ranks(step.target), slot=wide(step.slot), to=wide(step.to),
        offsets=(offsets[:, None] + pieces * inner * fan * o).reshape(-1), shift=inner * step.shift,
        wrap=inner * step.wrap,
    )  # fmt: skip
