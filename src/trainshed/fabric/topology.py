"""What part of a chip's links a group can use at once on each topology, and how far its messages travel."""

from __future__ import annotations

import numpy as np

from trainshed.core import Number
from trainshed.fabric.group import Share


def _extents(share: Share) -> list[tuple[float, Number, Number]]:
    """Per torus dimension: its length, how much of it the group spans, and the stride along it."""
    dims = share.level.dims or (share.level.chips,)
    left, skip = np.asarray(share.fan, dtype=np.float64), np.asarray(share.offset, dtype=np.float64)
    out: list[tuple[float, Number, Number]] = []
    for dim in dims:
        step = np.minimum(skip, dim)
        span = np.clip(dim / step, 1.0, left)
        out.append((float(dim), span, step))
        left, skip = left / span, skip / step
    return out


def usable(share: Share) -> Number:
    """The fraction of a chip's links of this level that the group's members can drive together."""
    topology = share.level.topology
    fan = np.asarray(share.fan, dtype=np.float64)
    if topology in ("ring", "torus"):
        extents = _extents(share)
        links: Number = np.zeros_like(fan)
        for dim, span, step in extents:
            both = 2.0 if dim > 2 else 1.0  # a closed ring is driven both ways round; a pair has one link
            closed = np.where(span * step >= dim, both, 1.0)
            links = links + np.where(span > 1.0, closed / step, 0.0)
        ports = sum(2.0 if dim > 2 else 1.0 for dim, _, _ in extents if dim > 1)
        return np.where(fan > 1.0, links / max(ports, 1.0), 1.0)
    if topology == "mesh":
        peers = max((share.level.dims[0] if share.level.dims else share.level.chips) - 1.0, 1.0)
        return np.where(fan > 1.0, np.minimum((fan - 1.0) / peers, 1.0), 1.0)
    return np.ones_like(fan)


def distance(share: Share) -> Number:
    """Mean links that a message between two random members passes on this level (1 behind a switch)."""
    fan = np.asarray(share.fan, dtype=np.float64)
    if share.level.topology not in ("ring", "torus"):
        return np.ones_like(fan)
    hops: Number = np.zeros_like(fan)
    for dim, span, step in _extents(share):
        closed = span * step >= dim
        hops = hops + np.where(span > 1.0, np.where(closed, dim / 4.0, span * step / 3.0), 0.0)
    return np.maximum(hops, 1.0)
