"""A core over time: how busy its engines are, and how many bytes of its memories are live."""

from __future__ import annotations

import numpy as np

from trainshed.chip.accesses import Accesses, lives
from trainshed.chip.timing.clock import Clock
from trainshed.chip.timing.origins import Array, Origins


def busy_shares(origins: Origins, clock: Clock, count: int) -> dict[str, Array]:
    """By engine, the share of each of ``count`` equal parts of the time in which it is at work, 0 to 1."""
    edges = np.linspace(0.0, clock.seconds, count + 1)
    if not clock.seconds:
        return {}
    return {name: _shares(origins.on(name), clock, edges) for name in origins.engines}


def _shares(own: Array, clock: Clock, edges: Array) -> Array:
    """The time at work until each moment grows from start to end of an instruction, overlaps counted once."""
    own = own[np.argsort(clock.start[own], kind="stable")]
    ends = np.maximum.accumulate(clock.end[own])
    starts = np.maximum(clock.start[own], np.concatenate(([0.0], ends[:-1])))
    starts = np.minimum(starts, ends)
    done = np.cumsum(ends - starts)
    moments = np.stack((starts, ends), axis=1).reshape(-1)
    until = np.stack((done - (ends - starts), done), axis=1).reshape(-1)
    shares: Array = np.clip(np.diff(np.interp(edges, moments, until)) / np.diff(edges), 0.0, 1.0)
    return shares


def live_bytes(columns: Accesses, clock: Clock, buffer: str) -> tuple[Array, Array]:
    """Moments and, from each to the next, the bytes per partition that are live in ``sbuf`` or ``psum``.

    A tile lives from the start of its first write to the end of its last use, as in the peak that is told.
    """
    alive = lives(columns, buffer)
    rows = np.array([storage.row for storage in alive.storages], np.int64)
    moments = np.concatenate((clock.start[alive.first], clock.ready[alive.last])) if len(rows) else np.zeros(0)
    steps = np.concatenate((rows, -rows))
    order = np.argsort(moments, kind="stable")
    moments, held = moments[order], np.cumsum(steps[order])
    last = np.append(moments[1:] > moments[:-1], True)[: len(moments)]
    return moments[last], held[last]
