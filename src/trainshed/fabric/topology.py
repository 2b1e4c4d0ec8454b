"""What part of a chip's links a group can use at once on each topology, and how far its messages travel."""

from __future__ import annotations

import math

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


def _ports(dim: float) -> float:
    """Links of a chip along one dimension: two of a ring, one between a pair."""
    return min(dim - 1.0, 2.0)


def usable(share: Share) -> Number:
    """The fraction of a chip's links of this level that the group's members drive together in rings.

    A closed ring is driven both ways round; a part of a ring has only the way back through itself. Members that lie
    apart along a ring share it with the groups in between. In a full mesh each pair has its own link; an irregular
    one lists its rings.
    """
    topology, fan = share.level.topology, np.asarray(share.fan, dtype=np.float64)
    if share.level.rings:
        rings = np.array([share.level.rings[-1], *share.level.rings], dtype=np.float64)
        at = np.clip(np.ceil(fan), 1, len(rings)).astype(np.intp) - 1
        return np.asarray(rings[at] / rings[-1])
    if topology in ("ring", "torus"):
        extents = _extents(share)
        links: Number = np.zeros_like(fan)
        for dim, span, step in extents:
            closed = np.where(span * step >= dim, _ports(dim), 1.0)
            links = links + np.where(span > 1.0, closed / step, 0.0)
        ports = sum(_ports(dim) for dim, _, _ in extents)
        return np.where(fan > 1.0, np.maximum(links, 1e-9) / max(ports, 1.0), 1.0)
    if topology == "mesh":
        peers = max(math.prod(share.level.dims or (share.level.chips,)) - 1.0, 1.0)
        return np.where(fan > 1.0, np.minimum((fan - 1.0) / peers, 1.0), 1.0)
    return 1.0


def direct_links(share: Share) -> Number:
    """The fraction of a chip's links that messages straight to the other members take.

    On a torus the links along the dimensions that the group spans, both ways where it closes them: how far a message
    goes (``distance``) counts those that members apart pass on the way. In a full mesh those to the members.
    """
    topology, fan = share.level.topology, np.asarray(share.fan, dtype=np.float64)
    if topology == "mesh":
        return usable(share)
    if topology not in ("ring", "torus") or share.level.rings:
        return 1.0
    extents = _extents(share)
    links: Number = np.zeros_like(fan)
    for dim, span, step in extents:
        links = links + np.where(span > 1.0, np.where(span * step >= dim, _ports(dim), 1.0), 0.0)
    ports = sum(_ports(dim) for dim, _, _ in extents)
    return np.where(fan > 1.0, np.maximum(links, 1e-9) / max(ports, 1.0), 1.0)


def one_link(share: Share) -> Number:
    """The fraction of a chip's links that two neighbours of the group have: one port of a mesh, all behind a switch.

    On a torus one port, shared with the groups that lie between members along the first dimension the group spans.
    """
    topology = share.level.topology
    dims = share.level.dims or (share.level.chips,)
    if topology == "mesh":
        rings = share.level.rings
        return 1.0 / (rings[-1] if rings else max(math.prod(dims) - 1.0, 1.0))
    if topology not in ("ring", "torus"):
        return 1.0
    apart: Number = np.ones_like(np.asarray(share.fan, dtype=np.float64))
    for _, span, step in reversed(_extents(share)):
        apart = np.where(span > 1.0, step, apart)
    return 1.0 / (max(sum(_ports(float(d)) for d in dims), 1.0) * apart)


def distance(share: Share) -> Number:
    """Mean links that a message between two random members passes on this level (1 behind a switch)."""
    fan = np.asarray(share.fan, dtype=np.float64)
    if share.level.topology not in ("ring", "torus"):
        return 1.0
    hops: Number = np.zeros_like(fan)
    for dim, span, step in _extents(share):
        closed = span * step >= dim
        around = np.where(dim > 2.0, dim / 4.0, 0.5)
        open_way = step * (span**2 - 1.0) / (3.0 * span)  # mean over all pairs, a member and itself among them
        hops = hops + np.where(span > 1.0, np.where(closed, around, open_way), 0.0)
    pairs = np.maximum(1.0 - 1.0 / fan, 0.5)  # a mean over other members only
    return np.maximum(hops / pairs, 1.0)


def doubling_distance(share: Share) -> Number:
    """Mean links that a byte passes in recursive halving, partners at 1, 2, 4, … along each dimension in turn.

    A partner at distance 2^k gets a part of 1 / 2^(k+1) of what is left, so that each step loads links alike: half of
    log2(d) buffers per dimension of d, against (1 − 1/d) that are sent.
    """
    fan = np.asarray(share.fan, dtype=np.float64)
    if share.level.topology not in ("ring", "torus"):
        return 1.0
    passed: Number = np.zeros_like(fan)
    left: Number = np.ones_like(fan)
    for _, span, step in _extents(share):
        passed = passed + left * 0.5 * np.ceil(np.log2(np.asarray(span))) * step
        left = left / span
    return np.where(fan > 1.0, np.maximum(passed / np.maximum(1.0 - 1.0 / fan, 0.5), 1.0), 1.0)


def extra_layers(share: Share) -> Number:
    """Layers of switches above the first one that a leaf-spine network needs for the chips the group spans."""
    if share.level.topology != "leaf-spine" or "radix" not in share.level.fitted:
        return 0.0
    half = np.asarray(share.level.fitted["radix"].value) / 2.0
    reached = (half, 2.0 * half**2, 2.0 * half**3)  # a leaf's down ports; two and three layers of folded Clos
    return np.asarray(sum(np.where(np.asarray(share.span) > reach, 1.0, 0.0) for reach in reached))
