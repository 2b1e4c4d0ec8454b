"""A schedule as dependent sends between chips: what a network model is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainshed.fabric.flow.sends import Sends
from trainshed.fabric.schedule.steps import Ints, Schedule, Step

#: Accesses of slots that are sorted at a time: what some 200 MB hold.
AT_ONCE = 2_000_000


class Placed(Protocol):
    """Where ranks are: ``network.placement.Placement``."""

    @property
    def chip(self) -> Ints:
        """``[ranks]``."""
        ...


def sends(schedule: Schedule, size: float, placement: Placed, start: float = 0.0, group: int = 0) -> Sends:
    """The sends of a collective of ``size`` bytes, each with those that must have arrived before.

    A slot is read after the last write of an earlier step and written after the reads and writes since then; sends of
    one step do not wait for each other, as what arrives is kept apart until it is over. The sends of a repeated step
    go one after another, as in a channel.
    """
    none = np.zeros(0, np.int64)
    source = np.concatenate([none, *(np.tile(step.source, step.repeat) for step in schedule.steps)])
    target = np.concatenate([none, *(np.tile(step.target, step.repeat) for step in schedule.steps)])
    sizes = np.concatenate([none, *(np.tile(schedule.size(step, size), step.repeat) for step in schedule.steps)])
    count = len(source)
    keys = _unique(
        [_in_turn(schedule, count), *(_unique(_pairs(key, span, count)) for key, span in _accesses(schedule))]
    )
    first = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(keys // max(count, 1), minlength=count), out=first[1:])
    chip = np.asarray(placement.chip)
    return Sends(
        source=chip[source], target=chip[target], size=sizes, first=first, before=keys % max(count, 1),
        earliest=np.full(count, start), group=np.full(count, group, np.int64),
    )  # fmt: skip


def join(parts: Sequence[Sends]) -> Sends:
    """Concurrent collectives as one set of sends; nobody waits for another's."""
    begin = np.cumsum([0, *(len(p) for p in parts)])
    edges = np.cumsum([0, *(len(p.before) for p in parts)])
    none = np.zeros(0, np.int64)
    first = [p.first[:-1] + edge for p, edge in zip(parts, edges, strict=False)]
    before = [p.before + at for p, at in zip(parts, begin, strict=False)]
    return Sends(
        source=np.concatenate([none, *(p.source for p in parts)]),
        target=np.concatenate([none, *(p.target for p in parts)]),
        size=np.concatenate([np.zeros(0), *(p.size for p in parts)]),
        first=np.concatenate([none, *first, edges[-1:]]), before=np.concatenate([none, *before]),
        earliest=np.concatenate([np.zeros(0), *(p.earliest for p in parts)]),
        group=np.concatenate([none, *(p.group for p in parts)]),
    )  # fmt: skip


def _accesses(schedule: Schedule) -> Iterator[tuple[Ints, int]]:
    """Who reads and writes which slots when, sorted, of so many ranks at a time as memory likes; and the span of times.

    One number each: ((slot of a rank · span) + time) · sends + send; a read's time is even, a write's the next odd one.
    """
    rows = sum(2 * step.repeat * len(step) * step.count for step in schedule.steps)
    ranks = min(max(1, schedule.ranks * AT_ONCE // max(rows, 1)), schedule.ranks)
    span, count = 2 * sum(step.repeat for step in schedule.steps), schedule.sends
    for low in range(0, schedule.ranks if rows else 0, ranks):
        cells, whens, numbers = [], [], []
        begin = time = 0
        for step in schedule.steps:
            times = np.arange(step.repeat)[:, None, None]
            for end, slots, kind in ((step.source, step.slot, 0), (step.target, step.to, 1)):
                who = np.flatnonzero((end >= low) & (end < low + ranks))
                cell = (end[who, None] - low) * schedule.slots + _slots(step, slots[who], times)
                cells.append(cell.reshape(-1))
                whens.append(np.broadcast_to(2 * (time + times) + kind, cell.shape).reshape(-1))
                numbers.append(np.broadcast_to(begin + len(step) * times + who[:, None], cell.shape).reshape(-1))
            begin += len(step) * step.repeat
            time += step.repeat
        cell, when, send = np.concatenate(cells), np.concatenate(whens), np.concatenate(numbers)
        if rows > 2 * count:
            chosen = _one_of_each(cell, 2 * send + when % 2, schedule.slots, ranks)[cell]
            cell, when, send = cell[chosen], when[chosen], send[chosen]
        yield np.sort((cell * span + when) * count + send), span


def _one_of_each(cell: Ints, access: Ints, slots: int, ranks: int) -> NDArray[np.bool_]:
    """``[ranks · slots]`` one of the slots of a rank that the very same sends read and write: what waits is the same.

    Sets of accesses are compared by the sum of a number drawn for each (64 bits).
    """
    drawn = np.random.default_rng(0).integers(0, 2**63, int(access.max(initial=0)) + 1 + ranks, dtype=np.uint64)
    mark = np.repeat(drawn[len(drawn) - ranks :], slots)
    np.add.at(mark, cell, drawn[access])
    chosen = np.zeros(len(mark), np.bool_)
    chosen[np.unique(mark, return_index=True)[1]] = True
    return chosen


def _slots(step: Step, slots: Ints, times: Ints) -> Ints:
    """``[repeat, sends, count]``."""
    moved = slots.reshape(1, len(slots), step.parts)
    if step.repeat > 1:
        moved = (moved + step.shift * times) % step.wrap if step.shift else moved + 0 * times
    return (moved[..., None] + step.offsets).reshape(step.repeat, len(slots), step.count)


def _pairs(rows: Ints, span: int, count: int) -> list[Ints]:
    """Keys ``later · count + earlier`` of sends that wait for each other because of a slot.

    Accesses are sorted by cell and time, so that everything an access waits for lies next to each other: a read waits
    for the last group of writes before; a group of writes for the reads since the group before (those of that group's
    own step included), and for that group itself if nobody has read since.
    """
    key, send = np.divmod(rows, count)
    if not len(key):
        return []
    # groups: accesses of one cell at one time, reads and writes apart
    g_begin = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    g_end = np.append(g_begin[1:], len(key))
    g_cell, g_when = np.divmod(key[g_begin], span)
    g_write = g_when % 2 == 1
    # for each group: the last group of writes of the same cell strictly before
    last = np.maximum.accumulate(np.where(g_write, np.arange(len(g_begin)), -1))
    last = np.concatenate([[-1], last[:-1]])
    known = (last >= 0) & (g_cell[np.maximum(last, 0)] == g_cell)
    last = np.where(known, last, -1)
    cell_begin = np.maximum.accumulate(np.where(np.concatenate([[True], g_cell[1:] != g_cell[:-1]]), g_begin, 0))

    found = []
    reads = ~g_write & known
    found.append(_keys(send, count, (g_begin, g_end), reads, g_begin[last], g_end[last]))
    # reads after the last writes, up to those of this group's own step
    before = np.concatenate([[0], np.arange(len(g_begin) - 1)])
    own = g_write & (before < np.arange(len(g_begin))) & (g_cell[before] == g_cell) & (g_when[before] == g_when - 1)
    until = np.where(own, g_begin[before], g_begin)
    since = np.where(known, g_end[last], cell_begin)
    found.append(_keys(send, count, (g_begin, g_end), g_write, since, until))
    # those of the last writes' own step, and the writes themselves
    with_reads = known & g_write & own[np.maximum(last, 0)]
    found.append(_keys(send, count, (g_begin, g_end), with_reads, g_begin[before[last]], g_begin[last]))
    found.append(_keys(send, count, (g_begin, g_end), known & g_write & (since >= until), g_begin[last], g_end[last]))
    return found


def _keys(send: Ints, count: int, group: tuple[Ints, Ints], chosen: Ints, since: Ints, until: Ints) -> Ints:
    """Each member of the chosen groups with each access from ``since`` to ``until``."""
    which = np.flatnonzero(chosen & (until > since))
    later, many = _expand(group[0][which], group[1][which])
    which = np.repeat(which, many)
    earlier, many = _expand(since[which], until[which])
    return np.asarray(np.repeat(send[later], many) * count + send[earlier])


def _expand(begin: Ints, end: Ints) -> tuple[Ints, Ints]:
    """All numbers of the ranges, one after another, and how many each has."""
    many = end - begin
    total = np.cumsum(many)
    return np.arange(total[-1] if len(total) else 0) + np.repeat(begin - total + many, many), many


def _in_turn(schedule: Schedule, count: int) -> Ints:
    """A send of a repeated step waits for the one before."""
    found, begin = [np.zeros(0, np.int64)], 0
    for step in schedule.steps:
        later = np.arange(begin + len(step), begin + len(step) * step.repeat)
        found.append(later * count + later - len(step))
        begin += len(step) * step.repeat
    return np.concatenate(found)


def _unique(keys: Sequence[Ints]) -> Ints:
    """Sorted, each once."""
    every = np.sort(np.concatenate([np.zeros(0, np.int64), *keys]))
    return every[np.concatenate([[True], every[1:] != every[:-1]])] if len(every) else every
