"""What holds a trace's ranks together: which nodes of different ranks are one collective, which send ends where.

The k-th collective that a rank calls in a group is the k-th of every member (the rule of NCCL and MPI). A rank's calls
are ordered by its program: dependencies, and by id where they leave it open.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.chakra import schema
from trainshed.fabric.chakra.trace import Ints, Trace


@dataclass(frozen=True, kw_only=True, eq=False)
class Matched:
    """A trace's nodes in their order, and what they meet."""

    position: Ints
    """``[nodes]`` place in the program, ranks one after another."""
    meeting: Ints
    """``[nodes]`` which collective a node is part of; −1."""
    meetings: int
    members: Ints
    """``[meetings]`` ranks that must come."""
    partner: Ints
    """``[nodes]`` the receive of a send and the send of a receive; −1."""


def match(trace: Trace) -> Matched:
    """Order and join a trace's nodes. UserError names the node that has a cycle, no partner, or a partner unlike it."""
    position = program(trace)
    meeting, meetings, members = _collectives(trace, position)
    return Matched(
        position=position, meeting=meeting, meetings=meetings, members=members, partner=_messages(trace, position)
    )


def program(trace: Trace) -> Ints:
    """A node's place: after all that it depends on, else by id. UserError where nodes wait for each other."""
    by_id = np.lexsort((trace.id, trace.rank))
    position = np.empty(len(trace), dtype=np.int64)
    position[by_id] = np.arange(len(trace))
    after = np.repeat(np.arange(len(trace)), np.diff(trace.first))
    late = np.unique(trace.rank[after[position[trace.before] >= position[after]]])
    for rank in late.tolist():  # ids alone are no order there
        low, high = np.searchsorted(trace.rank, [rank, rank + 1]).tolist()
        position[_by_dependencies(trace, low, high)] = np.arange(low, high)
    return position


def _by_dependencies(trace: Trace, low: int, high: int) -> list[int]:
    """Nodes low to high in an order that dependencies allow, the least id first (Kahn)."""
    missing = np.diff(trace.first)[low:high].tolist()
    children: list[list[int]] = [[] for _ in range(high - low)]
    for node in range(low, high):
        for parent in trace.before[trace.first[node] : trace.first[node + 1]].tolist():
            children[parent - low].append(node)
    ready = [(int(trace.id[low + k]), low + k) for k, count in enumerate(missing) if not count]
    heapq.heapify(ready)
    order = []
    while ready:
        node = heapq.heappop(ready)[1]
        order.append(node)
        for child in children[node - low]:
            missing[child - low] -= 1
            if not missing[child - low]:
                heapq.heappush(ready, (int(trace.id[child]), child))
    if len(order) < high - low:
        raise _cycle(trace, low, set(range(low, high)) - set(order))
    return order


def _cycle(trace: Trace, low: int, left: set[int]) -> UserError:
    """Walk from a node that never became ready to parents that did not either, until one comes again."""
    node, path = min(left), []
    while node not in path:
        path.append(node)
        node = next(p for p in trace.before[trace.first[node] : trace.first[node + 1]].tolist() if p in left)
    circle = [int(trace.id[n]) for n in reversed(path[path.index(node) :])]
    return UserError(
        "nodes that wait for each other", where=trace.where(node), value=" -> ".join(map(str, [*circle, circle[0]])),
        expected="dependencies without a cycle",
    )  # fmt: skip


def _count_up(order: Ints, *keys: Ints) -> Ints:
    """The how-manieth of its like each is, in the order given: 0 for the first of equal keys."""
    if not len(order):
        return order
    by = np.lexsort((order, *keys))
    new = np.concatenate([[True], np.any([k[by][1:] != k[by][:-1] for k in keys], axis=0)])
    begin = np.maximum.accumulate(np.where(new, np.arange(len(by)), 0))
    out = np.empty(len(by), dtype=np.int64)
    out[by] = np.arange(len(by)) - begin
    return out


def _collectives(trace: Trace, position: Ints) -> tuple[Ints, int, Ints]:
    nodes = np.flatnonzero(trace.kind == schema.COLLECTIVE)
    meeting = np.full(len(trace), -1, dtype=np.int64)
    turn = _count_up(position[nodes], trace.rank[nodes], trace.group[nodes])
    keys, own, count = np.unique(
        np.stack([trace.group[nodes], turn]), axis=1, return_inverse=True, return_counts=True
    )  # fmt: skip
    own = own.reshape(-1)
    meeting[nodes] = own
    sizes = np.array([len(g.members) for g in trace.groups], dtype=np.int64)
    members = sizes[keys[0]] if len(nodes) else np.zeros(0, dtype=np.int64)
    short = np.flatnonzero(count != members)
    if len(short):
        here = nodes[own == short[0]]
        missing = np.setdiff1d(trace.groups[int(keys[0, short[0]])].members, trace.rank[here])
        raise UserError(
            "a collective that not all ranks of its group call", where=trace.where(int(here[0])),
            value=f"rank {missing[0]} is missing",
            expected=f"call {int(keys[1, short[0]]) + 1} in the group of each member",
        )  # fmt: skip
    head = np.full(len(count), len(trace), dtype=np.int64)
    np.minimum.at(head, own, nodes)
    unlike = np.flatnonzero((trace.call[nodes] != trace.call[head[own]]) | (trace.size[nodes] != trace.size[head[own]]))
    if len(unlike):
        one, two = int(head[own[unlike[0]]]), int(nodes[unlike[0]])
        raise UserError(
            "a collective that ranks call differently", where=trace.where(two), value=_said(trace, two),
            expected=f"{_said(trace, one)}, as {trace.where(one)} has it",
        )  # fmt: skip
    return meeting, len(count), members


def _said(trace: Trace, node: int) -> str:
    return f"{trace.calls[int(trace.call[node])].kind} of {trace.size[node]:g} bytes"


def _messages(trace: Trace, position: Ints) -> Ints:
    partner = np.full(len(trace), -1, dtype=np.int64)
    sends, receives = (np.flatnonzero(trace.kind == kind) for kind in (schema.SEND, schema.RECEIVE))
    both = np.concatenate([sends, receives])
    if not len(both):
        return partner
    source = np.concatenate([trace.rank[sends], trace.peer[receives]])
    target = np.concatenate([trace.peer[sends], trace.rank[receives]])
    way = np.repeat([0, 1], [len(sends), len(receives)])
    turn = _count_up(position[both], source, target, trace.tag[both], way)
    _, own, count = np.unique(
        np.stack([source, target, trace.tag[both], turn]), axis=1, return_inverse=True, return_counts=True
    )  # fmt: skip
    own = own.reshape(-1)
    alone = np.flatnonzero(count[own] != 2)
    if len(alone):
        node = int(both[alone[0]])
        other = "receive" if way[alone[0]] == 0 else "send"
        raise UserError(
            f"a message without its {other}", where=trace.where(node), value=f"tag {trace.tag[node]}",
            expected=f"a {other} of rank {trace.peer[node]} with this tag",
        )  # fmt: skip
    by = np.argsort(own, kind="stable").reshape(-1, 2)  # a send, its receive
    one, two = both[by[:, 0]], both[by[:, 1]]
    unlike = np.flatnonzero(trace.size[one] != trace.size[two])
    if len(unlike):
        send, receive = int(one[unlike[0]]), int(two[unlike[0]])
        raise UserError(
            "a message of two sizes", where=trace.where(receive), value=float(trace.size[receive]),
            expected=f"{trace.size[send]:g} bytes, as {trace.where(send)} has it",
        )  # fmt: skip
    partner[one], partner[two] = two, one
    return partner
