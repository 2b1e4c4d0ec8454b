"""Replay of a trace on a system: when every node begins and ends, and what communication leaves in the open.

A rank has four lanes, which take one node at a time: host, compute, memory and links (ASTRA-sim's resources; memory
apart). Of the nodes that are ready a lane takes the one with the least id. A collective begins when its last member is
ready and no member's links are taken; members that wait hold nothing, so that collectives of different groups cannot
block each other. A send goes when its sender's links are free, whether or not the receive is posted; the receive ends
when both have happened. Time is that of the node alone (``pricing``).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.chakra import schema
from trainshed.fabric.chakra.matching import Matched, match
from trainshed.fabric.chakra.trace import Bools, Floats, Trace

HOST, COMPUTE, MEMORY, LINKS, NOWHERE = range(5)
_LANE = {schema.COMPUTE: COMPUTE, schema.LOAD: MEMORY, schema.STORE: MEMORY, schema.SEND: LINKS,
         schema.COLLECTIVE: LINKS}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """When each node happened."""

    ready: Floats
    """``[nodes]`` s: all that it depends on had ended."""
    begin: Floats
    """``[nodes]`` s: it began; a collective with its last member."""
    end: Floats
    """``[nodes]`` s"""

    @property
    def total(self) -> float:
        """From 0 to the last end."""
        return float(self.end.max()) if len(self.end) else 0.0


def run(trace: Trace, seconds: Floats, *, one_at_a_time: bool = True) -> Times:
    """Replay a trace whose nodes take ``seconds``.

    ``one_at_a_time``: a rank's links carry one send or collective at a time; else all that are ready, each as if alone.
    UserError where the trace does not match or ranks wait for each other.
    """
    return _Clock(trace, match(trace), seconds, one_at_a_time).run()


class _Clock:
    """One run: what is ready in each lane, what is under way, and what ends next."""

    def __init__(self, trace: Trace, matched: Matched, seconds: Floats, one_at_a_time: bool) -> None:
        self.trace, self.alone = trace, one_at_a_time
        count = len(trace)
        kinds = np.array([_LANE.get(k, NOWHERE) for k in range(len(schema.NODE_TYPES))])
        lane = np.where(trace.host & (trace.kind == schema.COMPUTE), HOST, kinds[trace.kind])
        self.kind, self.rank, self.seconds = trace.kind.tolist(), trace.rank.tolist(), seconds.tolist()
        self.lane = (trace.rank * NOWHERE + lane).tolist()
        self.free_of_lanes = (lane == NOWHERE).tolist()
        self.position = matched.position.tolist()
        self.meeting, self.partner = matched.meeting.tolist(), matched.partner.tolist()
        self.absent = matched.members.tolist()
        self.present: list[list[int]] = [[] for _ in range(matched.meetings)]
        self.missing, self.children = _children(trace, matched)
        self.waiting: dict[int, list[tuple[float, int, int]]] = {}
        """By lane: what could begin, as (since when, place in its program, node); only links sort by the first."""
        self.busy: set[int] = set()
        self.events: list[tuple[float, int]] = []
        self.ready, self.begin, self.end = ([float("nan")] * count for _ in range(3))

    def run(self) -> Times:
        """Until nothing is left to happen."""
        touched: set[int] = set()
        for node, missing in enumerate(self.missing):
            if not missing:
                self._becomes_ready(node, 0.0, touched)
        self._begin_in(touched, 0.0)
        while self.events:
            now, touched = self.events[0][0], set()
            while self.events and self.events[0][0] == now:
                self._ends(heapq.heappop(self.events)[1], now, touched)
            self._begin_in(touched, now)
        end = np.array(self.end)
        if np.isnan(end).any():
            raise self._stuck(np.isnan(end))
        return Times(ready=np.array(self.ready), begin=np.array(self.begin), end=end)

    def _becomes_ready(self, node: int, now: float, touched: set[int]) -> None:
        self.ready[node] = now
        kind, lane = self.kind[node], self.lane[node]
        if kind == schema.RECEIVE:
            send = self.partner[node]
            if self.end[send] == self.end[send]:  # it may still be on its way
                self._goes(node, now, max(self.end[send], now))
        elif kind == schema.COLLECTIVE:
            meeting = self.meeting[node]
            self.present[meeting].append(node)
            self.absent[meeting] -= 1
            if not self.absent[meeting]:
                place = min(self.position[n] for n in self.present[meeting])
                for member in self.present[meeting]:
                    heapq.heappush(self.waiting.setdefault(self.lane[member], []), (now, place, member))
                touched.add(lane)
        elif self.free_of_lanes[node]:
            self._goes(node, now, now)
        else:
            since = now if kind == schema.SEND else 0.0
            heapq.heappush(self.waiting.setdefault(lane, []), (since, self.position[node], node))
            touched.add(lane)

    def _goes(self, node: int, begin: float, end: float) -> None:
        self.begin[node], self.end[node] = begin, end
        heapq.heappush(self.events, (end, node))

    def _ends(self, node: int, now: float, touched: set[int]) -> None:
        lane = self.lane[node]
        if lane in self.busy and not self.free_of_lanes[node]:
            self.busy.discard(lane)
            touched.add(lane)
        for child in self.children[node]:
            self.missing[child] -= 1
            if not self.missing[child]:
                self._becomes_ready(child, now, touched)

    def _begin_in(self, lanes: set[int], now: float) -> None:
        """Let each lane take what it can."""
        for lane in sorted(lanes):
            waiting = self.waiting.get(lane)
            if not waiting:
                continue
            links = lane % NOWHERE == LINKS
            held = []
            while waiting and (lane not in self.busy or (links and not self.alone)):
                entry = heapq.heappop(waiting)
                node = entry[2]
                if self.begin[node] == self.begin[node]:
                    continue  # begun with another member's lane
                if not self._may_begin(node):
                    held.append(entry)
                    continue
                self._begins(node, now)
            for entry in held:
                heapq.heappush(waiting, entry)

    def _may_begin(self, node: int) -> bool:
        if self.kind[node] != schema.COLLECTIVE or not self.alone:
            return True
        return not any(self.lane[member] in self.busy for member in self.present[self.meeting[node]])

    def _begins(self, node: int, now: float) -> None:
        end = now + self.seconds[node]
        together = self.present[self.meeting[node]] if self.kind[node] == schema.COLLECTIVE else [node]
        for member in together:
            if self.alone or self.lane[member] % NOWHERE != LINKS:
                self.busy.add(self.lane[member])
            self._goes(member, now, end)
        receive = self.partner[node]
        if receive >= 0 and self.ready[receive] == self.ready[receive]:
            self._goes(receive, now, end)

    def _stuck(self, left: Bools) -> UserError:
        """Of the nodes that never happened, one that waits for another rank."""
        node = next((int(n) for n in np.flatnonzero(left) if self.ready[n] == self.ready[n]), int(np.argmax(left)))
        what = "its message"
        if self.meeting[node] >= 0:
            come = {self.rank[n] for n in self.present[self.meeting[node]]}
            members = self.trace.groups[int(self.trace.group[node])].members.tolist()
            what = f"rank {next(r for r in members if r not in come)}"
        return UserError(
            "ranks wait for each other for ever", where=self.trace.where(node), value=f"waits for {what}",
            expected="collectives and messages in an order that all ranks can keep",
        )  # fmt: skip


def _children(trace: Trace, matched: Matched) -> tuple[list[int], list[list[int]]]:
    """How many nodes each waits for, and which wait for it: its dependencies, and the call before in its group."""
    missing = np.diff(trace.first)
    children: list[list[int]] = [[] for _ in range(len(trace))]
    after = np.repeat(np.arange(len(trace)), missing)
    for parent, child in zip(trace.before.tolist(), after.tolist(), strict=True):
        children[parent].append(child)
    calls = np.flatnonzero(trace.kind == schema.COLLECTIVE)
    calls = calls[np.lexsort((matched.position[calls], trace.group[calls], trace.rank[calls]))]
    same = (trace.rank[calls][1:] == trace.rank[calls][:-1]) & (trace.group[calls][1:] == trace.group[calls][:-1])
    for parent, child in zip(calls[:-1][same].tolist(), calls[1:][same].tolist(), strict=True):
        children[parent].append(child)
        missing[child] += 1
    return missing.tolist(), children
