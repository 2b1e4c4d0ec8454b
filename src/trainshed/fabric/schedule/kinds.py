"""What each kind of collective starts with and must end with, slot by slot.

Pieces of data are numbered. Where a slot means the same on every rank (sums, gathers, broadcast) piece s is what
belongs in slot s; in all_to_all and permute piece rank · data + slot is what a rank had in a slot at the start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainshed.fabric.schedule.steps import Ints, Schedule

#: Kinds whose pieces are sums of contributions.
SUMS = ("all_reduce", "reduce_scatter", "moe_combine")
NOTHING = -1


def start(schedule: Schedule) -> Ints:
    """``[ranks, slots]`` the piece in each slot before the first step, or ``NOTHING``."""
    n, data = schedule.ranks, schedule.data
    held = np.full((n, schedule.slots), NOTHING, np.int64)
    ranks = np.arange(n)
    if schedule.kind in SUMS:
        held[:, :data] = np.arange(data)
    elif schedule.kind in ("all_gather", "moe_dispatch"):
        own = ranks[:, None] * (data // n) + np.arange(data // n)
        held[ranks[:, None], own] = own
    elif schedule.kind == "broadcast":
        held[schedule.root, :data] = np.arange(data)
    else:
        held[:, :data] = ranks[:, None] * data + np.arange(data)
        if schedule.kind == "all_to_all":  # what is a rank's own is where it belongs
            own = ranks[:, None] * (data // n) + np.arange(data // n)
            held[ranks[:, None], schedule.output + own] = held[ranks[:, None], own]
    return held


def end(schedule: Schedule) -> Ints:
    """``[ranks, slots]`` the piece each slot must have after the last step; ``NOTHING``: anything."""
    n, data = schedule.ranks, schedule.data
    wanted = np.full((n, schedule.slots), NOTHING, np.int64)
    ranks = np.arange(n)
    if schedule.kind in ("all_reduce", "all_gather", "broadcast", "moe_dispatch"):
        wanted[:, :data] = np.arange(data)
        if schedule.kind == "moe_dispatch" and schedule.counts is not None:
            wanted[:, :data][np.repeat(_idle(schedule.counts).T, data // n, axis=1)] = NOTHING
    elif schedule.kind in ("reduce_scatter", "moe_combine"):
        own = ranks[:, None] * (data // n) + np.arange(data // n)
        wanted[ranks[:, None], own] = own
    elif schedule.kind == "all_to_all":
        each = data // n
        got = (ranks[None, :, None] * data + ranks[:, None, None] * each + np.arange(each)).reshape(n, data)
        if schedule.counts is not None:
            got[np.repeat(_idle(schedule.counts).T, each, axis=1)] = NOTHING
        wanted[:, schedule.output : schedule.output + data] = got
    elif schedule.partner is not None:  # permute
        wanted[schedule.partner, :data] = ranks[:, None] * data + np.arange(data)
    return wanted


def _idle(counts: NDArray[np.float64]) -> NDArray[np.bool_]:
    """``[ranks, ranks]`` pairs that have nothing for each other."""
    idle = counts == 0
    np.fill_diagonal(idle, False)
    return np.asarray(idle)
