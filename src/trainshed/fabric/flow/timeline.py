"""What reports read of a run: sums by level, and sends as a table in the order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainshed.fabric.flow.sends import Floats, Ints, Run, Sends
from trainshed.fabric.network.graph import Network


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelUse:
    """Links of one level in one run."""

    level: str
    links: int
    used: int
    """Links that carried anything."""
    carried: float
    """Bytes over all links of the level: a message that passes two counts twice."""
    most: float
    """Bytes over the link that carried most."""
    peak: float
    """Largest part of a link's reachable rate in use at any time."""
    mean: float
    """Part of the data sheet's rate that the level's links had in use on average over the run."""
    busiest: str
    """Name of the link that carried most; empty where none did."""


def by_level(network: Network, run: Run) -> tuple[LevelUse, ...]:
    """Use of the links of each level."""
    found = []
    for k, name in enumerate(network.levels):
        links = np.flatnonzero(network.level == k)
        carried = run.carried[links]
        total, could = float(carried.sum()), float(network.bandwidth[links].sum()) * run.seconds
        found.append(
            LevelUse(
                level=name, links=len(links), used=int((carried > 0.0).sum()), carried=total,
                most=float(carried.max(initial=0.0)), peak=float(run.peak[links].max(initial=0.0)),
                mean=total / could if could > 0.0 else 0.0,
                busiest=network.link_name(int(links[np.argmax(carried)])) if total > 0.0 else "",
            )
        )  # fmt: skip
    return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """Sends in the order in which they begin: a bar each on its sender's track."""

    send: Ints
    """Its number in ``Sends``."""
    source: Ints
    target: Ints
    group: Ints
    size: Floats
    """B"""
    begin: Floats
    """s"""
    end: Floats
    """s"""
    lane: Ints
    """Bars of one sender that overlap in time lie on different lanes."""

    def __len__(self) -> int:
        return len(self.send)


def timeline(sends: Sends, run: Run, chips: NDArray[np.int64] | None = None) -> Timeline:
    """All sends of a run, or those that the given chips send."""
    chosen = np.arange(len(sends)) if chips is None else np.flatnonzero(np.isin(sends.source, chips))
    order = chosen[np.lexsort((chosen, run.begin[chosen]))]
    return Timeline(
        send=order, source=sends.source[order], target=sends.target[order], group=sends.group[order],
        size=sends.size[order], begin=run.begin[order], end=run.end[order],
        lane=_lanes(sends.source[order], run.begin[order], run.end[order]),
    )  # fmt: skip


def _lanes(source: Ints, begin: Floats, end: Floats) -> Ints:
    """The first lane of its sender that is free when a send begins."""
    lane, until = np.zeros(len(source), np.int64), dict[int, list[float]]()
    for k, (chip, start, stop) in enumerate(zip(source.tolist(), begin.tolist(), end.tolist(), strict=True)):
        taken = until.setdefault(chip, [])
        free = next((at for at, busy in enumerate(taken) if busy <= start), len(taken))
        taken[free : free + 1] = [stop]
        lane[k] = free
    return lane
