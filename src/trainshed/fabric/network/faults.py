"""Networks with something broken: what is left of them, and who can no longer reach whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainshed.core import UserError, unknown_name
from trainshed.fabric.network.graph import Floats, Ints, Network
from trainshed.fabric.network.routing_ways import expand

Flags = NDArray[np.bool_]


def fail(network: Network, what: Sequence[str], *, parted: bool = False) -> Network:
    """The network without what is named; nodes keep their numbers, a failed one only loses its links.

    ``chip 3`` or any other node; ``plane 1`` or ``rack 0 plane 1``; ``chip 3 -> sled 0`` one way, ``chip 3 - sled 0``
    both ways. UserError: no such node or link; chips that still work but cannot reach one another (unless ``parted``).
    """
    gone = np.zeros(network.links, dtype=bool)
    dead = np.zeros(network.nodes, dtype=bool)
    for each in what:
        for arrow, both in ((" -> ", False), (" - ", True)):
            if arrow in each:
                gone |= _links(network, each, arrow, both)
                break
        else:
            dead[_nodes(network, each)] = True
    gone |= dead[network.source] | dead[network.target]
    broken = _without(network, gone)
    alive = np.flatnonzero(~dead[: network.chips])
    if not parted and (pair := cut_off(broken, alive)) is not None:
        raise UserError(
            "chips that cannot reach each other", where=f"network {network.name} without {', '.join(what)}",
            value=f"{network.names[pair[0]]} to {network.names[pair[1]]}", expected="a way between all working chips",
        )  # fmt: skip
    return broken


def _without(network: Network, gone: Flags) -> Network:
    kept = ~gone
    columns = ("source", "target", "level", "bandwidth", "latency")
    return dataclasses.replace(network, **{name: getattr(network, name)[kept] for name in columns})


def _nodes(network: Network, name: str) -> list[int]:
    """The node of a name, or all switches of ``plane 1``."""
    if name in network.names:
        return [network.names.index(name)]
    word, _, number = name.partition(" ")
    if word == "plane" and number.isdecimal():
        inside = [i for i in range(network.chips, network.nodes) if f" {name} " in f" {network.names[i]} "]
        if inside:
            return inside
    known = [network.names[i] for i in range(min(network.nodes, 10_000))]
    raise unknown_name("node", name, known, where=f"network {network.name}")


def _links(network: Network, each: str, arrow: str, both: bool) -> Flags:
    one, other = (_nodes(network, name.strip())[0] for name in each.split(arrow, 1))
    found: Flags = (network.source == one) & (network.target == other)
    if both:
        found |= (network.source == other) & (network.target == one)
    if not found.any():
        raise UserError(
            "no such link", where=f"network {network.name}", value=each,
            expected=f"a link of {network.names[one]}: {', '.join(_neighbours(network, one)) or 'it has none'}",
        )  # fmt: skip
    return found


def _neighbours(network: Network, node: int) -> list[str]:
    near = np.unique(network.target[network.source == node])[:8]
    return [network.names[int(i)] for i in near]


def reached(network: Network, start: int, *, backwards: bool = False) -> Flags:
    """``[nodes]`` which nodes a message from ``start`` can get to, or with ``backwards`` can come from."""
    source, target = (network.target, network.source) if backwards else (network.source, network.target)
    order = np.argsort(source, kind="stable")
    first = np.searchsorted(source[order], np.arange(network.nodes + 1))
    seen = np.zeros(network.nodes, dtype=bool)
    seen[start] = True
    front = np.array([start])
    while len(front):
        entry, _ = expand(first, front)
        near = target[order[entry]]
        front = np.unique(near[~seen[near]])
        seen[front] = True
    return seen


def cut_off(network: Network, chips: Ints) -> tuple[int, int] | None:
    """Two of the chips of which the first cannot reach the second; None where all can."""
    if not len(chips):
        return None
    start = int(chips[0])
    missed = chips[~reached(network, start)[chips]]
    if len(missed):
        return start, int(missed[0])
    deaf = chips[~reached(network, start, backwards=True)[chips]]
    return (int(deaf[0]), start) if len(deaf) else None


@dataclass(frozen=True, kw_only=True)
class Left:
    """What is left of one level."""

    bandwidth: float
    """B/s that all chips together can still send over it."""
    part: float
    """Of what it was."""
    worst: str
    """The working chip that has lost most, sending or receiving."""
    worst_bandwidth: float
    """B/s that it still has there."""
    worst_part: float


def left(network: Network, broken: Network) -> dict[str, Left]:
    """By level, what ``broken`` has left of ``network``.

    A chip has what its own links carry, times what the switches that they lead to have left of their links further up:
    a chip behind a leaf without half of its spines has half.
    """
    out = {}
    for k, name in enumerate(network.levels):
        sends, before = _parts(network, broken, k, backwards=False)
        receives, _ = _parts(network, broken, k, backwards=True)
        has = np.flatnonzero(before > 0)
        if not len(has):
            continue
        part = np.minimum(sends, receives)
        links = np.bincount(broken.source, minlength=broken.nodes)[: broken.chips] > 0
        working = has[links[has]] if links[has].any() else has
        worst = int(working[np.argmin(part[working])])
        total = float((before * sends).sum())
        out[name] = Left(
            bandwidth=total, part=total / float(before.sum()), worst=network.names[worst],
            worst_bandwidth=float(before[worst] * part[worst]), worst_part=float(part[worst]),
        )  # fmt: skip
    return out


def _parts(network: Network, broken: Network, level: int, *, backwards: bool) -> tuple[Floats, Floats]:
    """``[chips]`` part left of what each chip sends (or receives) at a level, and B/s of its own links before."""
    left, before = np.ones(network.nodes), np.zeros(network.nodes)
    for kind in reversed(range(len(network.kinds))):
        here = np.flatnonzero(network.kind == kind)
        was = _upwards(network, level, kind, np.ones(network.nodes), backwards=backwards)[here]
        now = _upwards(broken, level, kind, left, backwards=backwards)[here]
        before[here] = was
        left[here] = np.where(was > 0, now / np.where(was > 0, was, 1.0), 1.0)
    return left[: network.chips], before[: network.chips]


def _upwards(network: Network, level: int, kind: int, left: Floats, *, backwards: bool) -> Floats:
    """``[nodes]`` B/s of nodes of a kind to later kinds, or chip to chip, as far as those have ``left`` to go on."""
    near, far = (network.target, network.source) if backwards else (network.source, network.target)
    higher = network.kind[far] > kind
    up = (network.level == level) & (network.kind[near] == kind) & (higher | ((kind == 0) & (network.kind[far] == 0)))
    rate = network.bandwidth * np.where(higher, left[far], 1.0)
    return np.asarray(np.bincount(near[up], weights=rate[up], minlength=network.nodes), dtype=np.float64)
