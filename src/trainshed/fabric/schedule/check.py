"""Does a schedule do what its kind promises? Replayed with the names of pieces instead of values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainshed.core import UserError
from trainshed.fabric.flow.sends import Sends
from trainshed.fabric.schedule.kinds import NOTHING, SUMS, end, start
from trainshed.fabric.schedule.steps import Ints, Schedule, Step

Bits = NDArray[np.uint64]


def check(schedule: Schedule) -> None:
    """Raise one sentence that names algorithm, step, rank and slot where a schedule goes wrong.

    Every rank must end with the right piece in each slot, of sums with each rank's contribution exactly once (experts:
    at least those that were routed); nobody may send what it does not have, nor two ranks overwrite one slot at once.
    """
    held = start(schedule)
    parts = _contributions(schedule, held) if schedule.kind in SUMS else None
    for number, step in enumerate(schedule.steps):
        _check_shape(schedule, step, number)
        for k, once in enumerate(step.times()):
            where = f"{schedule.algorithm} {schedule.kind}, step {number}" + (f" time {k}" if step.repeat > 1 else "")
            _advance(schedule, once, held, parts, where)
    _check_end(schedule, held, parts)


def check_waits(sends: Sends) -> None:
    """Raise one sentence that names a circle of sends that wait for each other, if there is one (deadlock).

    Those of a schedule never do, as each waits for earlier steps only; those that a user or a trace connected can.
    """
    later = np.repeat(np.arange(len(sends)), np.diff(sends.first))
    if (sends.before < later).all():
        return
    order = np.argsort(sends.before, kind="stable")
    freed = later[order]
    begin = np.searchsorted(sends.before[order], np.arange(len(sends) + 1))
    waits = np.diff(sends.first)
    ready = np.flatnonzero(waits == 0)
    while len(ready):
        met = np.concatenate([freed[begin[k] : begin[k + 1]] for k in ready.tolist()])
        waits = waits - np.bincount(met, minlength=len(sends))
        waits[ready] = -1
        ready = np.unique(met[waits[met] == 0])
    stuck = np.flatnonzero(waits > 0)
    if not len(stuck):
        return
    path = [int(stuck[0])]
    while path[-1] not in path[:-1]:
        before = sends.before[sends.first[path[-1]] : sends.first[path[-1] + 1]]
        path.append(int(before[waits[before] > 0][0]))
    circle = path[path.index(path[-1]) :]
    names = " after ".join(f"{k}" for k in circle[:8])
    raise UserError("sends wait for each other in a circle", where="deadlock", value=names, expected="a way to begin")


def arrivals(ranks: Ints, slots: Ints) -> list[Ints]:
    """Sends by which of the arrivals in their slots they are: in each of the lists no slot is written twice.

    ``ranks``: ``[sends]``; ``slots``: ``[sends, count]``. Sends to one rank that share no slot may be in one list;
    those that share a slot keep their order.
    """
    if not len(ranks):
        return []
    first = slots.min(axis=1)
    place = ranks if _overlap(ranks, slots, first) else ranks * (int(first.max()) + 1) + first
    order = np.argsort(place, kind="stable")
    same = place[order][1:] == place[order][:-1]
    begin = np.flatnonzero(np.concatenate([[True], ~same]))
    turn = np.arange(len(order)) - np.repeat(begin, np.diff(np.append(begin, len(order))))
    turns = np.empty_like(turn)
    turns[order] = turn
    if not turn.any():
        return [np.arange(len(order))]
    by_turn = np.argsort(turns, kind="stable")
    return np.split(by_turn, np.cumsum(np.bincount(turns))[:-1])


def _overlap(ranks: Ints, slots: Ints, first: Ints) -> bool:
    """Whether two sends with different first slots write one slot of one rank."""
    if slots.shape[1] == 1:
        return False
    width = int(slots.max()) + 1
    cell = (ranks[:, None] * width + slots).reshape(-1)
    order = np.argsort(cell, kind="stable")
    again = np.flatnonzero(cell[order][1:] == cell[order][:-1])
    owner = np.repeat(first, slots.shape[1])[order]
    return bool((owner[again] != owner[again + 1]).any())


def _contributions(schedule: Schedule, held: Ints) -> Bits:
    """``[ranks, slots, words]`` a bit for each rank whose contribution is in a slot."""
    n = schedule.ranks
    parts = np.zeros((*held.shape, (n + 63) // 64), np.uint64)
    r = np.arange(n)
    parts[r, :, r // 64] = np.where(held == NOTHING, 0, np.uint64(1) << (r % 64).astype(np.uint64)[:, None])
    return parts


def _check_shape(schedule: Schedule, step: Step, number: int) -> None:
    where = f"{schedule.algorithm} {schedule.kind}, step {number}"
    if not len(step):
        return
    for name, ranks in (("source", step.source), ("target", step.target)):
        wrong = np.flatnonzero((ranks < 0) | (ranks >= schedule.ranks))
        if len(wrong):
            raise UserError(f"{name} of send {wrong[0]}", where=where, value=int(ranks[wrong[0]]),
                            expected=f"a rank from 0 to {schedule.ranks - 1}")  # fmt: skip
    alone = np.flatnonzero(step.source == step.target)
    if len(alone):
        raise UserError(f"send {alone[0]} to itself", where=where, value=int(step.source[alone[0]]),
                        expected="another rank")  # fmt: skip
    if step.repeat > 1 and step.shift and not step.wrap:
        raise UserError("shift without wrap", where=where, value=step.shift, expected="wrap, the slots to stay within")
    for once in (step, step.time(step.repeat - 1)):
        for name, ranks, slots in (("read", once.source, once.reads), ("write", once.target, once.writes)):
            wrong = np.argwhere((slots < 0) | (slots >= schedule.slots))
            if len(wrong):
                send, part = (int(i) for i in wrong[0])
                raise UserError(f"slot of a {name} at rank {ranks[send]}", where=where, value=int(slots[send, part]),
                                expected=f"a slot from 0 to {schedule.slots - 1}")  # fmt: skip


def _advance(schedule: Schedule, step: Step, held: Ints, parts: Bits | None, where: str) -> None:
    """One step: what was read before it is written after it, arrival by arrival."""
    source, target, reads, writes = step.source[:, None], step.target, step.reads, step.writes
    brought = held[source, reads]
    if (brought == NOTHING).any():
        send, part = (int(i) for i in np.argwhere(brought == NOTHING)[0])
        raise UserError(f"rank {source[send, 0]} sends slot {reads[send, part]} to rank {target[send]}", where=where,
                        value="nothing in it yet", expected="a slot that it started with or got before")  # fmt: skip
    if step.reduce and parts is None:
        raise UserError("a send that adds up", where=where, value="reduce", expected=f"none in {schedule.kind}")
    bits = parts[source, reads] if parts is not None else None
    turns = arrivals(target, writes)
    if len(turns) > 1 and not step.reduce:
        send = int(turns[1][0])
        raise UserError(f"two sends overwrite slot {writes[send, 0]} of rank {target[send]} at once", where=where,
                        value=f"one of them from rank {source[send, 0]}", expected="one")  # fmt: skip
    for sends in turns:
        at = (target[sends][:, None], writes[sends])
        if step.reduce and parts is not None and bits is not None:
            _check_sum(brought[sends], held[at], bits[sends], parts[at], (step, sends, where))
            parts[at] |= bits[sends]
        else:
            held[at] = brought[sends]
            if parts is not None and bits is not None:
                parts[at] = bits[sends]


def _check_sum(brought: Ints, held: Ints, bits: Bits, parts: Bits, of: tuple[Step, Ints, str]) -> None:
    """What is added must be of the same piece and of ranks that are not in it yet."""
    step, sends, where = of
    other = np.argwhere(brought != held)
    if len(other):
        send, part = (int(i) for i in other[0])
        k = int(sends[send])
        raise UserError(
            f"slot {step.reads[k, part]} of rank {step.source[k]} is added to slot {step.writes[k, part]} of"
            f" rank {step.target[k]}", where=where, value=f"piece {brought[send, part]}",
            expected=f"piece {held[send, part]}" if held[send, part] != NOTHING else "something to add it to",
        )  # fmt: skip
    twice = (bits & parts).any(axis=-1)
    if twice.any():
        send, part = (int(i) for i in np.argwhere(twice)[0])
        k = int(sends[send])
        raise UserError(
            f"double in slot {step.writes[k, part]} of rank {step.target[k]}, added by rank {step.source[k]}",
            where=where, value=f"rank {_ranks_of(bits[send, part] & parts[send, part])[0]}",
            expected="each rank's contribution once",
        )  # fmt: skip


def _check_end(schedule: Schedule, held: Ints, parts: Bits | None) -> None:
    """Compare what is there with what has to be."""
    wanted, where = end(schedule), f"{schedule.algorithm} {schedule.kind}"
    wrong = np.argwhere((wanted != NOTHING) & (held != wanted))
    if len(wrong):
        rank, slot = (int(i) for i in wrong[0])
        raise UserError(
            f"rank {rank} ends with the wrong thing in slot {slot}", where=where,
            value="nothing" if held[rank, slot] == NOTHING else f"piece {held[rank, slot]}",
            expected=f"piece {wanted[rank, slot]}",
        )  # fmt: skip
    if parts is None:
        return
    needed = _needed(schedule)
    missing = (needed[:, None] if needed.ndim == 2 else needed) & ~parts
    lacks = np.argwhere((wanted != NOTHING) & missing.any(axis=-1))
    if len(lacks):
        rank, slot = (int(i) for i in lacks[0])
        raise UserError(f"rank {rank} ends with an incomplete sum in slot {slot}", where=where,
                        value=f"rank {_ranks_of(missing[rank, slot])[0]} is missing",
                        expected="each rank's contribution once")  # fmt: skip


def _needed(schedule: Schedule) -> Bits:
    """``[words]`` or ``[ranks, words]`` the ranks whose contributions a sum must have."""
    n = schedule.ranks
    of = np.ones((1, n), bool) if schedule.counts is None or schedule.kind != "moe_combine" else schedule.counts > 0
    packed = np.zeros((len(of), (n + 63) // 64 * 64), bool)
    packed[:, :n] = of
    words = np.packbits(packed, axis=1, bitorder="little").view(np.uint64)
    return np.asarray(words if len(of) > 1 else words[0])


def _ranks_of(words: Bits) -> list[int]:
    return [64 * w + b for w, word in enumerate(words.tolist()) for b in range(64) if word >> b & 1]
