"""Packet level: the slow, small definition of what the flow level is an approximation of.

A message is cut into packets. A switch stores a packet and forwards it (a packet is small against a message). Of each
flow every node keeps packets in a queue of its own; a link takes them from those queues in turn (round-robin; a sprayed
flow has its turn on a link as often as its share there says: start-time fair queueing, Goyal, Vin, Cheng, 1996), and a
sprayed flow's next packet goes over the link that is furthest behind its share. A link sends a packet only
when the next node has room for it: as many packets as are on the way and back, and ``credits`` more. Round-robin with
such windows hands out max-min fair rates as windows grow (Hahne, IEEE JSAC 9(7), 1991), which is what the flow level
assumes from the start.

When sends are ready, issued and in whose turn they leave is as at flow level (``fair.py``). Times are whole
picoseconds, and events of one time happen in the order in which they were planned.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from trainshed.core import UserError
from trainshed.fabric.flow.fair import Happens
from trainshed.fabric.flow.loads import Loads, loads
from trainshed.fabric.flow.order import Connections
from trainshed.fabric.flow.sends import Run, Sends, Transport
from trainshed.fabric.network.graph import Network

PS = 1e12
"""Picoseconds of a second."""


@dataclass(frozen=True)
class Packet:
    """The model at packet level (``Model``). Slow: use it on small cases."""

    size: float = 4096.0
    """Bytes of a full packet."""
    credits: int = 4

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("credits", 1)):
            if not getattr(self, name) >= least:
                raise UserError(
                    f"{name} of packets", where="network model", value=getattr(self, name), expected="at least 1"
                )

    def run(self, network: Network, sends: Sends, transport: Transport, *, routing: str = "spray") -> Run:
        """Time all sends, packet by packet."""
        return _Switchyard(self, network, sends, loads(network, sends, transport, routing)).run()


@dataclass(eq=False)
class _Flow:
    """One send under way."""

    send: int
    ways: dict[int, list[tuple[int, float]]]
    """By node: links that the flow may take from there, each with its part of the bytes."""
    start: int
    """Node where packets are cut."""
    left: float
    """Bytes that have not been cut yet."""
    arriving: float
    """Bytes that have not arrived yet."""
    cut: int = 0
    """Packets that wait at the start."""
    held: dict[int, int] = field(default_factory=dict)
    """By link: packets that are on it or wait behind it."""
    sent: dict[int, float] = field(default_factory=dict)
    """By link: bytes given to it."""
    turn: dict[int, float] = field(default_factory=dict)
    """By link: its clock at the flow's next turn."""


class _Switchyard:
    """Links as servers, and the events of one run."""

    def __init__(self, model: Packet, network: Network, sends: Sends, loads: Loads) -> None:
        self.model, self.sends, self.loads = model, sends, loads
        engines = list(range(len(loads.capacity) - loads.links))
        # a chip's engines are a link to it from a node of their own
        self.tail = network.source.tolist() + [-1 - chip for chip in engines]
        self.head = network.target.tolist() + engines
        self.rate = loads.capacity.tolist()
        self.latency = np.rint(network.latency * PS).astype(np.int64).tolist() + [0 for _ in engines]
        trips = [2.0 * late / PS * rate / model.size for late, rate in zip(self.latency, self.rate, strict=True)]
        self.window = [model.credits + int(trip) for trip in trips]
        self.turns: list[list[tuple[float, int, _Flow, int, float, int]]] = [[] for _ in self.rate]
        """By link: turn, serial, flow, node, size and earlier link of packets that go over it next."""
        self.clocks = [0.0 for _ in self.rate]
        """By link: turn of the packet sent last."""
        self.free = [True for _ in self.rate]
        self.carried = np.zeros(len(self.rate))
        self.events: list[tuple[int, int, int, int, Callable[[], None]]] = []
        self.now, self.serial = 0, 0
        self.missing, self.after = np.diff(sends.first).tolist(), _after(sends)
        self.busy: dict[int, int] = {}
        self.connections = Connections(sends, loads.pair)
        self.begin, self.end = np.full(len(sends), np.nan), np.full(len(sends), np.nan)

    def run(self) -> Run:
        """Until nothing is left to happen."""
        for send, missing in enumerate(self.missing):
            if not missing:
                self.ready(send)
        while self.events:
            self.now, *_, action = heapq.heappop(self.events)
            action()
        if np.isnan(self.end).any():
            raise UserError(
                "sends wait for each other in a circle", where="network model", value=int(np.isnan(self.end).sum()),
                expected="dependencies without circles",
            )  # fmt: skip
        carried = self.carried[: self.loads.links]
        # a link sends a packet at its full rate or nothing
        return Run(
            begin=self.begin, end=self.end + self.loads.finish, carried=carried, peak=(carried > 0.0).astype(np.float64)
        )

    def at(self, when: int, kind: Happens, number: int, action: Callable[[], None]) -> None:
        """Plan an event: by time, kind, number of the send (or link), order of planning."""
        heapq.heappush(self.events, (when, kind, number, self.serial, action))
        self.serial += 1

    def ready(self, send: int) -> None:
        """It waits for nothing but its time."""
        when = max(self.now, round(float(self.loads.start[send]) * PS))
        self.at(when, Happens.READY, send, partial(self.issue, send))

    def issue(self, send: int) -> None:
        """Its chip issues it after those before."""
        pair, chip = self.loads.pair[send], int(self.sends.source[send])
        issued = max(self.now, self.busy.get(chip, 0)) + round(float(self.loads.message[pair]) * PS)
        self.busy[chip] = issued
        self.at(issued + round(float(self.loads.hop[pair]) * PS), Happens.BEGIN, send, partial(self.open, send))

    def open(self, send: int) -> None:
        """Its connection lets it begin, now or later."""
        pair = self.loads.pair[send]
        if self.sends.size[send] > 0.0 and self.loads.first[pair + 1] > self.loads.first[pair]:
            for each in self.connections.admit(self.now, [send]):
                self.start(each)
        else:
            self.begin[send] = self.now / PS
            late = round(float(self.loads.latency[pair]) * PS)
            self.at(self.now + late, Happens.ARRIVE, send, partial(self.arrived, send))

    def start(self, send: int) -> None:
        """The first packet is cut."""
        self.begin[send] = self.now / PS
        pair, size = self.loads.pair[send], float(self.sends.size[send])
        ways: dict[int, list[tuple[int, float]]] = {}
        entries = slice(self.loads.first[pair], self.loads.first[pair + 1])
        for link, share in zip(self.loads.link[entries].tolist(), self.loads.share[entries].tolist(), strict=True):
            ways.setdefault(self.tail[link], []).append((link, share))
        chip = int(self.sends.source[send])
        flow = _Flow(send, ways, start=-1 - chip if -1 - chip in ways else chip, left=size, arriving=size)
        self.cut(flow)

    def cut(self, flow: _Flow) -> None:
        """Packets line up at the start, a few for each link from there."""
        while flow.left > 0.0 and flow.cut < self.model.credits * len(flow.ways[flow.start]):
            size = min(self.model.size, flow.left)
            flow.left -= size
            flow.cut += 1
            self.line_up(flow, flow.start, size, -1)

    def line_up(self, flow: _Flow, node: int, size: float, before: int) -> None:
        """A packet at a node, come over link ``before``, takes its place in the turns of a link."""
        link, share = min(flow.ways[node], key=lambda way: (flow.sent.get(way[0], 0.0) + size) / way[1])
        flow.sent[link] = flow.sent.get(link, 0.0) + size
        turn = max(self.clocks[link], flow.turn.get(link, 0.0))
        flow.turn[link] = turn + size / share
        heapq.heappush(self.turns[link], (turn, self.serial, flow, node, size, before))
        self.serial += 1
        self.serve(link)

    def serve(self, link: int) -> None:
        """A free link sends the packet whose turn it is among those for which the next node has room."""
        if not self.free[link]:
            return
        turns, passed = self.turns[link], []
        while turns:
            first = heapq.heappop(turns)
            turn, _, flow, node, size, before = first
            if flow.held.get(link, 0) < self.window[link]:
                self.clocks[link] = turn
                flow.held[link] = flow.held.get(link, 0) + 1
                self.free[link] = False
                until = self.now + max(round(size / self.rate[link] * PS), 1)
                self.at(until, Happens.BEGIN, len(self.sends) + link,
                        partial(self.sent, link, flow, node, size, before))  # fmt: skip
                break
            passed.append(first)
        for again in passed:
            heapq.heappush(turns, again)

    def sent(self, link: int, flow: _Flow, node: int, size: float, before: int) -> None:
        """A packet has left a node: it travels on, the next one lines up, the link before has room."""
        self.free[link] = True
        self.carried[link] += size
        self.at(self.now + self.latency[link], Happens.ARRIVE, len(self.sends) + link,
                partial(self.came, link, flow, size))  # fmt: skip
        if node == flow.start:
            flow.cut -= 1
            self.cut(flow)
            if not flow.cut:
                for send in self.connections.leave([flow.send]):
                    self.start(send)
        else:
            flow.held[before] -= 1
            self.serve(before)
        self.serve(link)

    def came(self, link: int, flow: _Flow, size: float) -> None:
        """A packet has come to a node."""
        node = self.head[link]
        if link < self.loads.links and node == self.sends.target[flow.send]:
            flow.arriving -= size
            flow.held[link] -= 1
            self.serve(link)
            if flow.arriving < 0.5:
                self.arrived(flow.send)
            return
        self.line_up(flow, node, size, link)

    def arrived(self, send: int) -> None:
        """The last byte is there."""
        self.end[send] = self.now / PS
        for after in self.after[send]:
            self.missing[after] -= 1
            if not self.missing[after]:
                self.ready(after)


def _after(sends: Sends) -> list[list[int]]:
    """By send: those that wait for it."""
    after: list[list[int]] = [[] for _ in range(len(sends))]
    for send in range(len(sends)):
        for before in sends.before[sends.first[send] : sends.first[send + 1]].tolist():
            after[before].append(send)
    return after
