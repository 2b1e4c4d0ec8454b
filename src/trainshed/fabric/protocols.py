"""NCCL's protocols of a ring, and which of them its tuning tables take.

LL sends a flag with each word, LL128 with each line of 128 bytes, Simple fences once per slice. NCCL does not try them:
before each call it estimates ``start + steps · hop + bytes / rate`` from the tables of its code and takes the least
(``src/graph/tuning.cc``). Those tables (``planned_…``) only choose; what a protocol then takes follows from the
interconnect's own constants. They overrate the hops of LL128 and Simple, so that NCCL changes over late and a buffer
just below a change takes longer than one just above: such a buffer counts as the larger one does, so that time never
falls with size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainshed.core import Cost, Number, formula
from trainshed.fabric.group import Share

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One protocol: its name and the mechanisms that an interconnect may have of it."""

    name: str
    prefix: str
    """Of what a start (``…_start``) and each hop take on top of LL's."""
    rate: str = ""
    """Mechanism of the part of the reached rate that it can use; none: all of it."""

    def planned(self, what: str) -> str:
        """Name of the number of NCCL's tables: ``start`` or ``hop``."""
        return "_".join(filter(None, ("planned", self.prefix, what)))


PROTOCOLS = (
    Protocol(name="LL", prefix="", rate="low_latency"),
    Protocol(name="LL128", prefix="line", rate="line_rate"),
    Protocol(name="Simple", prefix="bulk"),
)


def known(share: Share) -> tuple[Protocol, ...]:
    """Protocols that an interconnect has; of libraries without protocols the plain one."""
    fitted = share.level.fitted
    return tuple(p for p in PROTOCOLS if not p.rate or p.rate in fitted)


def intervals(share: Share, rounds: float) -> list[tuple[Floats, Floats]] | None:
    """Sizes from which and up to which NCCL's tables take each of the ``known`` protocols; None without tables.

    Each estimate is a straight line over the size: the one of least slope above the crossings with steeper lines, and
    below those with flatter ones.
    """
    fitted = share.level.fitted
    if "planned_reach" not in fitted:
        return None
    n = np.asarray(share.ranks, dtype=np.float64)
    word = rounds * np.maximum(n - 1.0, 1.0) / n
    rate = np.asarray(fitted["planned_reach"].value) * np.asarray(share.level.bandwidth.value)
    delays, slopes = [], []
    for p in known(share):
        start, hop = (np.asarray(fitted[p.planned(what)].value) for what in ("start", "hop"))
        delays.append(start + rounds * (n - 1.0) * hop)
        slopes.append(word / rate / (np.asarray(fitted[p.rate].value) if p.rate else 1.0))
    found = []
    for i, (delay, slope) in enumerate(zip(delays, slopes, strict=True)):
        begin, end = np.zeros(n.shape), np.full(n.shape, np.inf)
        for j, (other, steeper) in enumerate(zip(delays, slopes, strict=True)):
            if j < i:  # LL, LL128, Simple: each flatter than those before
                begin = np.maximum(begin, (delay - other) / (steeper - slope))
            elif j > i:
                end = np.minimum(end, (other - delay) / (slope - steeper))
        found.append((begin, end))
    return found


def chosen(costs: Sequence[Cost], ends: Sequence[Floats | None], begins: Sequence[Floats | None], size: Number) -> Cost:
    """The cost of the protocol taken: the cheapest of those with a place in the tables at this size or above it."""
    seconds = []
    for cost, begin, end in zip(costs, begins, ends, strict=True):
        out: Number = np.asarray(cost.value, dtype=np.float64)
        if begin is not None and end is not None:
            out = np.where((begin < end) & (np.asarray(size) <= end), out, np.inf)
        seconds.append(out)
    table = np.stack(np.broadcast_arrays(*seconds))
    best = np.argmin(table, axis=0)
    names: dict[str, Number | Cost] = {}
    for i, cost in enumerate(costs):
        taken = np.where(best == i, 1.0, 0.0)
        if np.any(taken):
            names |= {f"taken{i}": taken, f"time{i}": cost}
    words = [f"{name} * time{name.removeprefix('taken')}" for name in names if name.startswith("taken")]
    return formula("ring", "s", " + ".join(words), **names)
