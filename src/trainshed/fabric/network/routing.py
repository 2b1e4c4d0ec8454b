"""Which links the messages between two chips take, and what part of the bytes goes over each.

``spray`` spreads a message over all shortest ways alike, ``ecmp`` takes one of them by a hash of the pair,
``shortest`` the first of them (on a torus: x, then y, then z), ``source`` the ways that the caller lists, else those of
``shortest``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trainshed.core import UserError, unknown_name
from trainshed.fabric.network.graph import Floats, Ints, Network
from trainshed.fabric.network.routing_ways import CHUNK, Core, Distances, Ways, expand, scopes

POLICIES = ("shortest", "ecmp", "spray", "source")
Paths = Mapping[tuple[int, int], Sequence[int]] | Callable[[int, int], Sequence[int]]
"""The nodes of a pair's way, both ends included."""
KEPT = 20_000_000
"""Links of routes that are remembered for a network and policy."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Routes:
    """Pair k takes ``link[first[k]:first[k + 1]]``, from its source on."""

    first: Ints
    """``[pairs + 1]``"""
    link: Ints
    share: Floats
    """Part of the pair's bytes on each link; over all links of one ``step`` they add up to 1."""
    step: Ints
    """How many links come before each on its way."""

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def pair(self) -> Ints:
        """``[entries]`` the pair of each entry."""
        return np.repeat(np.arange(len(self)), np.diff(self.first))

    def take(self, pairs: Ints) -> Routes:
        """The routes of some pairs, in that order."""
        entry, row = expand(self.first, pairs)
        return _routes(len(pairs), row, self.link[entry], self.share[entry], self.step[entry])


def _routes(pairs: int, pair: Ints, link: Ints, share: Floats, step: Ints) -> Routes:
    """Entries in the order of their pairs."""
    first = np.zeros(pairs + 1, dtype=np.int64)
    np.cumsum(np.bincount(pair, minlength=pairs), out=first[1:])
    return Routes(first=first, link=link, share=share, step=step)


class _Memory:
    """What is known of one network: its scopes and the routes asked for so far, by policy."""

    def __init__(self, network: Network) -> None:
        self.ways = [Ways(network, links) for links in scopes(network)]
        self.known: dict[str, tuple[Ints, Routes]] = {}


def _memory(network: Network) -> _Memory:
    """Kept with the network itself, so that it goes when the network goes."""
    memory: _Memory | None = vars(network).get("_routes")
    if memory is None:
        memory = vars(network)["_routes"] = _Memory(network)
    return memory


def routes(
    network: Network, source: Ints, target: Ints, routing: str = "spray", paths: Paths | None = None
) -> Routes:  # fmt: skip
    """The routes of pairs of nodes; from a chip to itself over its self-link, if it has one.

    ``paths`` (with ``source``): a way per pair, as a mapping or a function. UserError: no way between a pair, a path
    that the network has not.
    """
    if routing not in POLICIES:
        raise unknown_name("routing", routing, POLICIES, where=f"network {network.name}")
    source, target = np.asarray(source, dtype=np.int64), np.asarray(target, dtype=np.int64)
    ends = np.concatenate([source, target])
    if len(ends) and not 0 <= ends.min() <= ends.max() < network.nodes:
        wrong = ends.min() if ends.min() < 0 else ends.max()
        raise UserError(
            "end of a route", where=f"network {network.name}", value=int(wrong), expected=f"0 to {network.nodes - 1}"
        )
    if paths is not None:
        if routing != "source":
            raise UserError("paths given", where=f"network {network.name}", value=routing, expected="routing source")
        return _listed(network, source, target, paths)
    memory, policy = _memory(network), "shortest" if routing == "source" else routing
    key = source * network.nodes + target
    asked = np.unique(key)
    keys, known = memory.known.get(policy, (np.zeros(0, np.int64), _routes(0, *_empty())))
    new = np.setdiff1d(asked, keys, assume_unique=True)
    if len(new):
        if len(known.link) > KEPT:  # only what is asked for now
            old = np.intersect1d(asked, keys, assume_unique=True)
            keys, known = old, known.take(np.searchsorted(keys, old))
        found = _found(network, memory.ways, new // network.nodes, new % network.nodes, policy)
        keys, known = np.concatenate([new, keys]), _joined(found, known)
        order = np.argsort(keys)
        keys, known = keys[order], known.take(order)
        memory.known[policy] = keys, known
    return known.take(np.searchsorted(keys, key))


def _empty() -> tuple[Ints, Ints, Floats, Ints]:
    none = np.zeros(0, dtype=np.int64)
    return none, none, np.zeros(0), none


def _joined(one: Routes, other: Routes) -> Routes:
    return Routes(
        first=np.concatenate([one.first, one.first[-1] + other.first[1:]]),
        link=np.concatenate([one.link, other.link]), share=np.concatenate([one.share, other.share]),
        step=np.concatenate([one.step, other.step]),
    )  # fmt: skip


Entries = tuple[Ints, Ints, Floats, Ints]
"""Pair, link, share, step of each."""


def _found(network: Network, ways: Sequence[Ways], source: Ints, target: Ints, policy: str) -> Routes:
    """Routes of pairs that differ."""
    entries = [_to_itself(network, source, target)]
    left = np.flatnonzero(source != target)
    for scope in ways:
        if not len(left):
            break
        near = left[scope.part[source[left]] == scope.part[target[left]]]
        if not len(near):
            continue
        reached, more = _within(scope, source[near], target[near], policy)
        entries.append((near[more[0]], *more[1:]))
        left = np.setdiff1d(left, near[reached], assume_unique=True)
    if len(left):
        one, other = network.names[int(source[left[0]])], network.names[int(target[left[0]])]
        raise UserError(
            "no way", where=f"network {network.name}", value=f"{one} to {other}", expected="links that connect them"
        )
    pair, link, share, step = (np.concatenate(column) for column in zip(*entries, strict=True))
    order = np.lexsort((link, step, pair))
    return _routes(len(source), pair[order], link[order], share[order], step[order])


def _to_itself(network: Network, source: Ints, target: Ints) -> Entries:
    own = np.flatnonzero(network.source == network.target)
    own = own[np.unique(network.source[own], return_index=True)[1]]
    pair = np.flatnonzero(source == target)
    at = np.searchsorted(network.source[own], source[pair])
    has = (at < len(own)) & (network.source[own[np.minimum(at, len(own) - 1)]] == source[pair]) if len(own) else at < 0
    return pair[has], own[at[has]], np.ones(int(has.sum())), np.zeros(int(has.sum()), np.int64)


def _within(scope: Ways, source: Ints, target: Ints, policy: str) -> tuple[np.ndarray, Entries]:
    """Whether a scope connects pairs, and how: up the tree of the source, through the core, down to the target."""
    depth, parent, up, down = scope.trees
    one, other = source.copy(), target.copy()
    rise, fall = np.zeros(len(source), np.int64), np.zeros(len(source), np.int64)
    ups, downs = [], []
    while True:
        apart = one != other
        climb = np.flatnonzero(apart & (depth[one] > 0) & (depth[one] >= depth[other]))
        drop = np.flatnonzero(apart & (depth[other] > depth[one]))
        if not len(climb) and not len(drop):
            break
        ups.append((climb, up[one[climb]], rise[climb]))
        downs.append((drop, down[other[drop]], fall[drop]))
        one[climb], other[drop] = parent[one[climb]], parent[other[drop]]
        rise[climb] += 1
        fall[drop] += 1
    apart = np.flatnonzero(one != other)
    hops, (pair, link, share, step) = _through(
        scope.core, one[apart], other[apart], source[apart], target[apart], policy
    )
    reached = np.ones(len(source), dtype=bool)
    reached[apart] = hops >= 0
    middle = np.zeros(len(source), np.int64)
    middle[apart] = hops
    whole = rise + middle + fall
    entries = [(apart[pair], link, share, rise[apart[pair]] + step)]
    entries += [(at, by, np.ones(len(at)), k) for at, by, k in ups]
    entries += [(at, by, np.ones(len(at)), whole[at] - 1 - k) for at, by, k in downs]
    columns = [np.concatenate(column) for column in zip(*entries, strict=True)]
    kept = reached[columns[0]]
    return reached, (columns[0][kept], columns[1][kept], columns[2][kept], columns[3][kept])


def _through(
    core: Core, one: Ints, other: Ints, source: Ints, target: Ints, policy: str
) -> tuple[Ints, Entries]:  # fmt: skip
    """Links between nodes of the core (−1: none), and the entries."""
    hops = np.full(len(one), -1, dtype=np.int64)
    start, end = core.place[one], core.place[other]
    inside = np.flatnonzero((start >= 0) & (end >= 0))
    if not len(inside):
        return hops, _empty()
    if policy == "ecmp":
        lane = inside
    else:  # pairs that enter and leave the core alike have the same way through it
        _, first, like = np.unique(
            start[inside] * core.size + end[inside], return_index=True, return_inverse=True
        )  # fmt: skip
        lane = inside[first]
    entries = [_empty()]
    targets, which = np.unique(end[lane], return_inverse=True)
    kinds, kind = core.alike(targets)
    which = kind[which]
    some = max(CHUNK // core.size, 1)
    for begin in range(0, len(kinds), some):
        at = np.flatnonzero((which >= begin) & (which < begin + some))
        place = (which[at] - begin) * core.size + start[lane[at]]
        distances = Distances(core, kinds[begin : begin + some], place)
        met = distances.hops[place] > 0
        hops[lane[at[met]]] = distances.hops[place[met]]
        at, place = at[met], place[met]
        chance = _hash(source[lane[at]], target[lane[at]])
        pair, link, share, step = _walk(distances, place, end[lane[at]], chance, policy)
        entries.append((at[pair], link, share, step))
    pair, link, share, step = (np.concatenate(column) for column in zip(*entries, strict=True))
    if policy == "ecmp":
        return hops, (lane[pair], link, share, step)
    order = np.argsort(pair, kind="stable")
    each = _routes(len(lane), pair[order], link[order], share[order], step[order]).take(like)
    hops[inside] = hops[lane][like]
    return hops, (inside[each.pair], each.link, each.share, each.step)


def _hash(source: Ints, target: Ints) -> Floats:
    """A number in [0, 1) per pair, the same every time (splitmix64)."""
    x = (source.astype(np.uint64) << np.uint64(32)) ^ target.astype(np.uint64)
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x ^ (x >> np.uint64(31))).astype(np.float64) / 2.0**64 * (1 - 2**-52)


def _walk(distances: Distances, place: Ints, goal: Ints, chance: Floats, policy: str) -> Entries:
    """From all places to their targets, a link at a time; ``chance`` says which of its ways a pair takes by ecmp."""
    core, size = distances.core, len(distances.hops)
    pair, share = np.arange(len(place)), np.ones(len(place))
    entries, step = [_empty()], 0
    while len(place):
        link, row, to, part = distances.onward(place, goal[pair])
        going = distances.hops[place[row]] > 1
        if policy == "spray":
            part = share[row] * part
            entries.append((pair[row], core.link[link], part, np.full(len(row), step)))
            merged, at = np.unique(pair[row[going]] * size + to[going], return_inverse=True)
            pair, place = merged // size, merged % size
            share = np.asarray(np.bincount(at, weights=part[going]), dtype=np.float64)
        else:
            pick, chance = _picked(row, part, chance, policy)
            entries.append((pair, core.link[link[pick]], np.ones(len(pick)), np.full(len(pick), step)))
            going = going[pick]
            pair, place, chance = pair[going], to[pick][going], chance[going]
        step += 1
    pairs, links, shares, steps = (np.concatenate(column) for column in zip(*entries, strict=True))
    return pairs, links, shares, steps


def _picked(row: Ints, part: Floats, chance: Floats, policy: str) -> tuple[Ints, Floats]:
    """One entry of each row, and what is left of its chance: all ways are equally likely."""
    start = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
    if policy != "ecmp":
        return start, chance
    size = np.diff(np.r_[start, len(row)])
    before = np.cumsum(part) - part
    before -= np.repeat(before[start], size)
    pick = start + np.minimum(np.add.reduceat(before <= chance[row], start), size) - 1
    return pick, np.clip((chance - before[pick]) / part[pick], 0.0, 1.0 - 2**-52)


def _listed(network: Network, source: Ints, target: Ints, paths: Paths) -> Routes:
    """Routes along the nodes that the caller gives; links between the same two nodes share alike."""
    key = network.source * network.nodes + network.target
    order = np.argsort(key, kind="stable")
    sorted_key = key[order]
    entries = [_empty()]
    for k, (one, other) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        nodes = np.asarray(paths(one, other) if callable(paths) else paths.get((one, other), ()), dtype=np.int64)
        pair = f"{network.names[one]} to {network.names[other]}"
        if len(nodes) < 1 or nodes[0] != one or nodes[-1] != other or nodes.min() < 0 or nodes.max() >= network.nodes:
            raise UserError(
                f"path of {pair}", where=f"network {network.name}", value=nodes.tolist(),
                expected=f"nodes from {one} to {other}",
            )  # fmt: skip
        want = nodes[:-1] * network.nodes + nodes[1:]
        low, high = np.searchsorted(sorted_key, want), np.searchsorted(sorted_key, want, side="right")
        if (low == high).any():
            gap = int(np.argmax(low == high))
            raise UserError(
                f"path of {pair}", where=f"network {network.name}",
                value=f"{network.names[int(nodes[gap])]} -> {network.names[int(nodes[gap + 1])]}", expected="a link",
            )  # fmt: skip
        step = np.repeat(np.arange(len(want)), high - low)
        at = np.concatenate([np.arange(a, b) for a, b in zip(low, high, strict=True)]) if len(want) else low
        entries.append((np.full(len(at), k), order[at], 1.0 / np.repeat(high - low, high - low), step))
    pair_, link, share, steps = (np.concatenate(column) for column in zip(*entries, strict=True))
    return _routes(len(source), pair_, link, share, steps)


def latency(network: Network, routes: Routes) -> Floats:
    """``[pairs]`` s that the first bit takes on the longest of a pair's ways."""
    pair, nodes = routes.pair, network.nodes
    source, target = network.source[routes.link], network.target[routes.link]
    out = np.zeros(len(routes))
    at, seconds = np.zeros(0, np.int64), np.zeros(0)
    for step in range(int(routes.step.max(initial=-1)) + 1):
        here = np.flatnonzero(routes.step == step)
        arrive = network.latency[routes.link[here]]
        if step:
            arrive = arrive + seconds[np.searchsorted(at, pair[here] * nodes + source[here])]
        key = pair[here] * nodes + target[here]
        at, where = np.unique(key, return_inverse=True)
        seconds = np.zeros(len(at))
        np.maximum.at(seconds, where, arrive)
        np.maximum.at(out, at // nodes, seconds)
    return out
