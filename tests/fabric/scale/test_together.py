"""Collectives at the same time: against brute force, and each link's bytes."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.network.build import network
from trainshed.fabric.network.graph import Network
from trainshed.fabric.network.placement import place
from trainshed.fabric.network.routing import routes
from trainshed.fabric.scale import Collective, concurrent
from trainshed.fabric.schedule import join, schedule, sends
from trainshed.hardware.catalogue import Catalogue

FREE = Transport(name="wires")


def rack() -> Network:
    return network(Catalogue().system("trn3-gen2"), 72)


def stepped(graph: Network, parts: list[Collective], slices: int) -> np.ndarray:
    """Ends by brute force: small slices of time, in each of which all rates rise together until links are full."""
    all_sends = join([sends(c.schedule, c.size, c.placement, c.start, g) for g, c in enumerate(parts)])
    ways = routes(graph, all_sends.source, all_sends.target)
    used, link = np.unique(ways.link, return_inverse=True)
    part, bandwidth = np.zeros((len(all_sends), len(used))), graph.bandwidth[used]
    part[ways.pair, link] = ways.share
    late = np.array([graph.latency[ways.link[ways.first[k] : ways.first[k + 1]]] @ ways.share[
        ways.first[k] : ways.first[k + 1]] for k in range(len(ways))])  # fmt: skip
    left, end = all_sends.size.copy(), np.full(len(all_sends), np.inf)
    tick, now = all_sends.size.sum() / graph.bandwidth[ways.link].min() / slices, 0.0
    while np.isinf(end).any():
        waits = [
            end[all_sends.before[a:b]].max(initial=0.0)
            for a, b in zip(all_sends.first[:-1], all_sends.first[1:], strict=True)
        ]
        active = (np.maximum(waits, all_sends.earliest) <= now) & (left > 0.0)
        rate, frozen = np.zeros(len(left)), ~active
        while not frozen.all():
            room = bandwidth - rate @ part
            load = part[~frozen].sum(axis=0)
            rate[~frozen] += np.min(room[load > 0] / load[load > 0])
            full = bandwidth - rate @ part < 1e-6 * bandwidth
            frozen |= (part[:, full] > 0).any(axis=1)
        left = np.where(active, left - rate * tick, left)
        now += tick
        over = np.where(active & (left <= 0.0), left / np.maximum(rate, 1.0), 0.0)
        end = np.where(active & (left <= 0.0), now + over + late, end)
    out = np.zeros(len(parts))
    np.maximum.at(out, all_sends.group, end)
    return out


def test_against_brute_force() -> None:
    """TP groups of four, a DP ring across them, a pipeline's message and experts that exchange, on eight chips."""
    graph = rack()
    mesh, ring = schedule("all_reduce", "mesh", 4), schedule("all_reduce", "ring", 2)
    experts = schedule("all_to_all", "direct", 4)
    parts = [
        Collective(schedule=mesh, size=4e7, placement=place(graph, 4, order=[0, 1, 2, 3])),
        Collective(schedule=mesh, size=4e7, placement=place(graph, 4, order=[4, 5, 6, 7])),
        Collective(schedule=ring, size=8e7, placement=place(graph, 2, order=[0, 4])),
        Collective(schedule=experts, size=6e7, placement=place(graph, 4, order=[0, 2, 4, 6]), start=1e-5),
    ]
    found = concurrent(graph, parts, FREE)
    assert found.end == pytest.approx(stepped(graph, parts, 40_000), rel=0.01)


def test_overlapping_groups_slow_each_other_and_others_do_not() -> None:
    graph = rack()
    ring = schedule("all_gather", "ring", 4)
    near, far = place(graph, 4, order=[0, 1, 2, 3]), place(graph, 4, order=[8, 9, 10, 11])
    alone = concurrent(graph, [Collective(schedule=ring, size=1e9, placement=near)], FREE).end[0]
    apart = concurrent(graph, [Collective(schedule=ring, size=1e9, placement=p) for p in (near, far)], FREE).end
    both = concurrent(graph, [Collective(schedule=ring, size=1e9, placement=near)] * 2, FREE).end
    assert apart == pytest.approx([alone, alone])
    assert both == pytest.approx([2 * alone - 3e-6] * 2)  # three steps' latencies are not shared


def test_groups_that_tile_carry_alike() -> None:
    graph = rack()
    mesh = schedule("all_reduce", "mesh", 4)
    parts = [
        Collective(schedule=mesh, size=1e8, placement=place(graph, 4, order=range(4 * g, 4 * g + 4))) for g in range(18)
    ]
    found = concurrent(graph, parts, FREE)
    assert np.ptp(found.end) == 0.0
    assert found.run.carried.sum() == pytest.approx(2 * 18 * 4 * 3 / 4 * 1e8 * 2)  # up to the switch and down


def test_nothing_to_do_is_said() -> None:
    with pytest.raises(UserError, match="at least one"):
        concurrent(rack(), [], FREE)
