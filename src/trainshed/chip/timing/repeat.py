"""Where a program repeats itself: the same kinds of instructions that wait for the same ones, so many places before.

Loops over tiles look like this once their memory goes round. The clock steps through such a run until its state
comes again, and then knows the rest of it exactly.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from trainshed.chip.timing.kinds import Array
from trainshed.chip.timing.order import Edges

#: Distances that are tried, the ones that explain most instructions first.
_TRIED = 24
#: Periods that a run takes to come to itself, at least; shorter runs are stepped.
_PERIODS = 4
#: Instructions between two looks at the state, at least.
_LEAST = 48


class Run(NamedTuple):
    """Instructions ``start`` to ``stop``: each is as the one ``period`` before it, from ``start + period`` on."""

    start: int
    stop: int
    period: int


def runs(kind: Array, edges: Edges) -> list[Run]:
    """Runs that do not overlap, in order; exact: every instruction and every edge has been compared."""
    if len(kind) < _PERIODS * _LEAST:
        return []
    shape = _shapes(kind, edges)
    found = [run for period in _periods(shape) for run in _runs(shape, period)]
    found.sort(key=lambda run: run.period * _PERIODS - (run.stop - run.start))
    taken: list[Run] = []
    for run in found:
        taken += [piece for piece in _free(run, taken) if _same(kind, edges, piece)]
    return sorted(taken)


def _free(run: Run, taken: list[Run]) -> list[Run]:
    """What others have left of a run, where it is long enough."""
    pieces, start = [], run.start
    for other in sorted(taken):
        if other.stop > start and other.start < run.stop:
            pieces.append(run._replace(start=start, stop=other.start))
            start = other.stop
    pieces.append(run._replace(start=start))
    return [piece for piece in pieces if piece.stop - piece.start >= _PERIODS * piece.period]


def _shapes(kind: Array, edges: Edges) -> Array:
    """A number per instruction: equal where kind and distances to what it waits for are (but for chance)."""
    mixed = _mix((edges.later - edges.earlier).astype(np.uint64))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)))
    first = np.searchsorted(edges.later, np.arange(len(kind) + 1))
    whole = _mix(kind.astype(np.uint64)) + np.uint64(3) * (sums[first[1:]] - sums[first[:-1]])
    return np.unique(whole, return_inverse=True)[1].astype(np.int64)


def _mix(x: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """64 bits that look drawn at random (the finaliser of SplitMix64)."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _periods(shape: Array) -> list[int]:
    """Distances between like instructions, as multiples of which the state is looked at."""
    order = np.argsort(shape, kind="stable")
    same = shape[order[1:]] == shape[order[:-1]]
    lengths, counts = np.unique((order[1:] - order[:-1])[same], return_counts=True)
    best = np.argsort(-lengths * counts, kind="stable")[:_TRIED]
    return sorted({-(-_LEAST // int(length)) * int(length) for length in lengths[best]})


def _runs(shape: Array, period: int) -> list[Run]:
    if period >= len(shape):
        return []
    same = np.concatenate(([False], shape[period:] == shape[:-period], [False]))
    edges = np.flatnonzero(same[1:] != same[:-1])
    starts, stops = edges[::2], edges[1::2]
    long = stops - starts >= (_PERIODS - 1) * period
    return [Run(a, b + period, period) for a, b in zip(starts[long].tolist(), stops[long].tolist(), strict=True)]


def _same(kind: Array, edges: Edges, run: Run) -> bool:
    """Whether a run's instructions and edges really are those a period before."""
    start, stop, period = run
    if (kind[start + period : stop] != kind[start : stop - period]).any():
        return False
    at = np.searchsorted(edges.later, (start, stop - period, start + period, stop))
    one, two = slice(at[0], at[1]), slice(at[2], at[3])
    if at[1] - at[0] != at[3] - at[2]:
        return False
    return bool(
        (edges.later[one] + period == edges.later[two]).all()
        and (edges.earlier[one] + period == edges.earlier[two]).all()
    )
