"""A schedule as dependent sends between chips: what a network model is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from trainshed.fabric.flow.sends import Sends
from trainshed.fabric.schedule.steps import Floats, Ints, Schedule, Step


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
    table = _table(schedule, size)
    count = len(table.source)
    keys = np.concatenate([*_pairs(table, count), _in_turn(schedule, count)])
    keys = _unique(keys)
    first = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(keys // max(count, 1), minlength=count), out=first[1:])
    chip = np.asarray(placement.chip)
    return Sends(
        source=chip[table.source], target=chip[table.target], size=table.size, first=first, before=keys % max(count, 1),
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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """All sends in the order of steps, and which cells (rank and slot) they read and write, and when."""

    source: Ints
    target: Ints
    size: Floats
    cell: Ints
    when: Ints
    """2 · time of a read, 2 · time + 1 of a write."""
    send: Ints


def _table(schedule: Schedule, size: float) -> _Table:
    sources, targets, sizes, cells, whens, numbers = [], [], [], [], [], []
    begin = time = 0
    for step in schedule.steps:
        times, count = np.arange(step.repeat), len(step)
        sources.append(np.tile(step.source, step.repeat))
        targets.append(np.tile(step.target, step.repeat))
        sizes.append(np.tile(schedule.size(step, size), step.repeat))
        number = begin + count * times[:, None] + np.arange(count)
        for ranks, slots, kind in ((step.source, step.slot, 0), (step.target, step.to, 1)):
            cell = ranks[:, None] * schedule.slots + _slots(step, slots, times)
            cells.append(cell.reshape(-1))
            numbers.append(np.broadcast_to(number[:, :, None], cell.shape).reshape(-1))
            whens.append(np.broadcast_to(2 * (time + times[:, None, None]) + kind, cell.shape).reshape(-1))
        begin += count * step.repeat
        time += step.repeat
    none = np.zeros(0, np.int64)
    return _Table(
        source=np.concatenate([none, *sources]), target=np.concatenate([none, *targets]),
        size=np.concatenate([np.zeros(0), *sizes]), cell=np.concatenate([none, *cells]),
        when=np.concatenate([none, *whens]), send=np.concatenate([none, *numbers]),
    )  # fmt: skip


def _slots(step: Step, slots: Ints, times: Ints) -> Ints:
    """``[repeat, sends, count]``."""
    moved = slots.reshape(1, len(step), step.parts)
    if step.repeat > 1 and step.shift:
        moved = (moved + step.shift * times[:, None, None]) % step.wrap
    else:
        moved = np.broadcast_to(moved, (step.repeat, *moved.shape[1:]))
    return (moved[..., None] + step.offsets).reshape(step.repeat, len(step), step.count)


def _pairs(table: _Table, count: int) -> list[Ints]:
    """Keys ``later · count + earlier`` of sends that wait for each other because of a slot.

    Accesses are sorted by cell and time, so that everything an access waits for lies next to each other: a read waits
    for the last group of writes before; a group of writes for the reads since the group before (those of that group's
    own step included), and for that group itself if nobody has read since.
    """
    if not len(table.cell):
        return []
    span = int(table.when.max()) + 1
    key = table.cell * span + table.when
    order = np.argsort(key, kind="stable")
    key, send = key[order], table.send[order]
    cell, write = key // span, (key % span) % 2 == 1
    index = np.arange(len(key))
    begins = np.concatenate([[True], key[1:] != key[:-1]])
    g_begin = index[begins]  # groups: accesses of one cell at one time, reads and writes apart
    g_end = np.append(g_begin[1:], len(key))
    g_cell, g_write, g_when = cell[g_begin], write[g_begin], key[g_begin] % span
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


def _unique(keys: Ints) -> Ints:
    keys = np.sort(keys)
    return keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
