"""Algorithms of all_reduce, all_gather, reduce_scatter and broadcast that NCCL and AWS document, in closed form.

``size`` is NCCL's: S, the buffer that every rank ends with (all_reduce, all_gather, broadcast) or starts with
(reduce_scatter). ``rounds`` is 2 for all_reduce (a reduce_scatter, then an all_gather), else 1.

Sources: NCCL, ``src/graph/tuning.cc`` and ``src/device``; aws-neuron-sdk, ``neuron-runtime/explore``:
``intranode-collective-comm.rst`` and ``internode-collective-comm.rst``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainshed.core import Cost, Number, cheapest, formula, total
from trainshed.fabric import protocols
from trainshed.fabric.group import Share
from trainshed.fabric.terms import latency, messages, pipelined, start_of, transfer
from trainshed.fabric.topology import direct_links, distance, doubling_distance, usable


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """A collective as the algorithms take it."""

    kind: str
    size: Number
    shares: tuple[Share, ...]
    concurrent: Number = 1.0
    copies: Number = 1.0
    """Experts per token (top-k), for moe_dispatch and moe_combine."""

    @property
    def rounds(self) -> float:
        """2 for all_reduce, which is a reduce_scatter and an all_gather."""
        return 2.0 if self.kind == "all_reduce" else 1.0

    @property
    def ranks(self) -> Number:
        """Members of the group."""
        return self.shares[0].ranks

    @cached_property
    def links(self) -> list[Number]:
        """The part of each level's links that rings of the group drive."""
        return [usable(s) for s in self.shares]

    @cached_property
    def distances(self) -> list[Number]:
        """Mean links on the way of a message, by level."""
        return [distance(s) for s in self.shares]

    @cached_property
    def direct_links(self) -> list[Number]:
        """The part of each level's links that messages straight to the other members take."""
        return [direct_links(s) for s in self.shares]

    @cached_property
    def spreading(self) -> list[Number]:
        """Bytes of S / n to every other member, by the level where they part, each link on the way counted."""
        n, pairs = np.asarray(self.ranks), zip(self.shares, self.distances, strict=True)
        return [(s.members - s.inner) / n * self.size * way for s, way in pairs]

    def messages(self, rounds: float) -> list[Cost]:
        """What it takes to issue a message to every other member in each round; empty where that has no price."""
        cost = messages(self.shares, [rounds * (s.members - s.inner) for s in self.shares])
        return [] if cost is None else [cost]

    @cached_property
    def edges(self) -> list[Number]:
        """Edges of a ring through all members that cross each level and none above; they add up to the ranks."""
        shares = self.shares
        return [s.active * (s.ranks / s.inner - np.where(s.whole, 0.0, s.ranks / s.members)) for s in shares]


@dataclass(frozen=True, kw_only=True, eq=False)
class Way:
    """One algorithm on one group: its time without the launch, and what one member sends over each share's links."""

    time: Cost
    carried: Sequence[Number]


def ring(call: Call, *, halved: Number = 1.0) -> Way:
    """All members in a cycle; as many cycles at once as there are links, so that all links carry the same.

    Where an interconnect knows NCCL's protocols (``protocols``), the one that its tables take counts; over a network,
    the cheapest. A chunk's last step is local, out of the receive buffer (a hop, and ``last_step`` of a link step's
    bytes), which is why two ranks reach less than eight.
    """
    shares, n = call.shares, np.asarray(call.ranks)
    steps = [call.rounds * (e - s.outermost) * halved for e, s in zip(call.edges, shares, strict=True)]
    if "last_step" in shares[0].level.fitted:
        steps[0] = steps[0] + shares[0].active
    volume = call.rounds * (n - 1.0) / n * call.size
    carried = [volume * e / n for e in call.edges]
    planned = protocols.intervals(shares[0], call.rounds)
    costs, begins, ends = [], [], []
    for i, protocol in enumerate(protocols.known(shares[0])):
        begin, end, longer = None, None, np.asarray(1.0)
        if planned is not None:
            begin, end = (np.where(shares[0].whole, x, y) for x, y in zip(planned[i], (0.0, np.inf), strict=True))
            longer = np.maximum(begin / np.maximum(call.size, 1.0), 1.0)
        own = np.where(n > 1.0, call.size / n, 0.0) * longer  # a group of one rank copies nothing
        moved = transfer(
            shares, [c * longer for c in carried], call.links, call.concurrent, local=own, fraction=protocol.rate
        )
        start, hops = start_of(shares, f"{protocol.prefix}_start"), latency(shares, steps, protocol=protocol.prefix)
        costs.append(total(f"ring, {protocol.name}", [start, hops, moved]))
        begins.append(begin)
        ends.append(end)
    time = protocols.chosen(costs, ends, begins, call.size) if len(costs) > 1 else costs[0].named("ring")
    return Way(time=time, carried=carried)


def kangaring(call: Call) -> Way:
    """AWS's KangaRing: of each two ranks on a chip one forwards for both, so that half of the steps are left."""
    return ring(call, halved=np.where(paired(call), 0.5, 1.0))


def paired(call: Call) -> NDArray[np.bool_]:
    """Whether two members of a group share a chip."""
    inside = call.shares[0]
    return np.asarray(np.asarray(inside.fan if inside.level.topology == "chip" else inside.inner) >= 2.0)


def chain(call: Call) -> Way:
    """A broadcast through the ring, in pieces."""
    crossing = call.edges
    steps = [e - s.outermost for e, s in zip(crossing, call.shares, strict=True)]
    carried = [call.size * e / np.asarray(call.ranks) for e in crossing]
    moved = transfer(call.shares, carried, call.links, call.concurrent)
    return Way(time=pipelined("ring", latency(call.shares, steps), moved), carried=carried)


def _tree_parts(call: Call, shares: Sequence[Share]) -> tuple[list[Number], list[Number]]:
    """Steps and bytes of double binary trees: up and down S, of two domains only one way each.

    NCCL's trees join servers; inside one, where it copies with channels, members form a chain (``tuning.cc``).
    """
    steps = [
        call.rounds * (np.asarray(s.fan) - 1.0 if "channels" in s.level.fitted else
                       np.ceil(np.log2(np.maximum(np.asarray(s.fan), 1.0))))
        for s in shares
    ]  # fmt: skip
    both = [np.where(np.asarray(s.fan) > 2.0, call.rounds, 1.0) * s.active for s in shares]
    return steps, [k * call.size / s.inner for k, s in zip(both, shares, strict=True)]


def tree(call: Call) -> Way:
    """NCCL's double binary trees, pipelined: reduce up, broadcast down."""
    steps, carried = _tree_parts(call, call.shares)
    costs = []
    for p in protocols.known(call.shares[0]):
        moved = transfer(call.shares, carried, call.links, call.concurrent, fraction=p.rate)
        pieces = pipelined("pieces", latency(call.shares, steps, protocol=p.prefix), moved)
        costs.append(total(f"tree, {p.name}", [start_of(call.shares, f"{p.prefix}_start"), pieces]))
    return Way(time=cheapest("tree", costs) if len(costs) > 1 else costs[0].named("tree"), carried=carried)


def nvls(call: Call) -> Way:
    """The switch adds up: each member sends S once and its part of the sum once more; trees between switches.

    NVLink SHARP of NCCL (NVLS, NVLSTree): ``multimem.ld_reduce`` of S / n from all, ``multimem.st`` to all. What the
    switch adds up (S) sets the rate, ``in_network`` of what links reach; every rank waits for the flags of all. Groups
    with one member per switch have nothing to add up there: the tree is left.
    """
    if not call.shares[0].level.reduction_in_network:
        return tree(call)
    first, rest = call.shares[0], call.shares[1:]
    steps, carried = _tree_parts(call, rest)
    known = first.level.fitted
    start = formula(
        "start of the reduction", "s", "on * (in_network_latency - in_network_pass + members * in_network_sync * hop)",
        on=first.active, members=first.fan,
        **{key: known[key] for key in ("in_network_latency", "in_network_pass", "in_network_sync", "hop")},
    )  # fmt: skip
    switch = formula(
        "a piece's pass", "s", "on * in_network_pass", on=first.active, in_network_pass=known["in_network_pass"]
    )
    depth = total("steps", [switch, latency(rest, steps, protocol="bulk")])
    sent = [first.active * call.size * (1.0 + 1.0 / first.fan), *carried]
    added = [first.active * call.size, *carried]
    moved = transfer(call.shares, added, call.links, call.concurrent, fraction="in_network")
    return Way(time=total("nvls", [start, pipelined("pieces", depth, moved)]), carried=sent)


def mesh(call: Call) -> Way:
    """Every member to every other at once: one step per round, but messages cross links that others need (AWS)."""
    steps = [call.rounds * s.active for s in call.shares]
    carried = [call.rounds * c for c in call.spreading]
    moved = transfer(call.shares, carried, call.direct_links, call.concurrent)
    return Way(time=total("mesh", [latency(call.shares, steps), *call.messages(call.rounds), moved]), carried=carried)


def one_shot_mesh(call: Call) -> Way:
    """Single-step all_reduce: every member sends its whole buffer to every other and adds up what it got (AWS)."""
    n = np.asarray(call.ranks)
    carried = [n * c for c in call.spreading]
    moved = transfer(call.shares, carried, call.direct_links, call.concurrent)
    steps = [s.active for s in call.shares]
    return Way(time=total("one-shot mesh", [latency(call.shares, steps), *call.messages(1.0), moved]), carried=carried)


def rhd(call: Call) -> Way:
    """Recursive halving and doubling: log2 steps with one partner each, half of the buffer first, then a quarter, ….

    On a torus parts of the buffer take the axes in turn and partners lie 1, 2, 4, … apart, so that links are partly
    over-subscribed, less than by mesh (AWS). A step has one partner, so the levels take turns.
    """
    shares = call.shares
    steps = [call.rounds * np.ceil(np.log2(np.maximum(np.asarray(s.fan), 1.0))) for s in shares]
    routed = [doubling_distance(s) for s in shares]
    carried = [call.rounds * call.size / s.inner * (1.0 - 1.0 / s.fan) * r for s, r in zip(shares, routed, strict=True)]
    moved = transfer(shares, carried, call.links, call.concurrent, together=False)
    return Way(time=total("rhd", [latency(shares, steps), moved]), carried=carried)


def hierarchical(call: Call) -> Way:
    """A reduce_scatter inwards, the outermost level, an all_gather back: at each level the best algorithm (AWS).

    Each of the ``inner`` members of a domain works on its own 1 / inner of the buffer.
    """
    stages = []
    carried: list[Number] = []
    for share in call.shares:
        alone = replace(share, inner=1.0, members=share.fan, ranks=share.fan)
        stage = replace(call, size=call.size / share.inner, shares=(alone,))
        # behind a switch every algorithm sends as much and mesh has the fewest steps
        clear = (
            share.level.topology in ("chip", "switch") or share.level.dims == (2,)
        ) and "message" not in share.level.fitted
        ways = [mesh(stage)] if clear else [ring(stage), mesh(stage), rhd(stage)]
        best = cheapest("algorithm", [w.time for w in ways]) if len(ways) > 1 else ways[0].time
        stages.append(best.named(f"{call.kind} over {share.level.name}"))
        carried.append(ways[0].carried[0])
    return Way(time=total("hierarchical", stages), carried=carried)
