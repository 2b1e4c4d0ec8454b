"""The packet level, and how far the flow level is from it."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.packet import Packet
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.network.routing import POLICIES

from .conftest import random_network, random_sends, star, table

HOPS = {"in": 1e-6, "out": 2e-6}
TRANSPORTS = (
    Transport(name="engines", hop=HOPS, inject=1e9),
    Transport(name="messages", hop=HOPS, message={"out": 3e-6}, launch={"out": 5e-6}, reach={"in": 0.8}),
)


def test_one_message_by_hand() -> None:
    """Ten packets over two links: the last one waits for nine, is stored once, and both links take their time."""
    found = Packet(size=1e5).run(star(2), table([(0, 1, 1e6)]), Transport(name="t", hop={"rack": 2e-6}))
    assert found.begin[0] == pytest.approx(2e-6)
    assert found.end[0] == pytest.approx(2e-6 + 11 * 1e-4 + 1e-6)
    assert found.carried == pytest.approx([1e6, 0.0, 0.0, 1e6])


def test_two_flows_take_turns() -> None:
    found = Packet(size=1000.0).run(star(3), table([(0, 2, 1e5), (1, 2, 3e5)]), Transport(name="t"))
    assert found.end == pytest.approx([2e-4, 4e-4], rel=0.02)


def test_a_flow_that_waits_elsewhere_leaves_its_part() -> None:
    """Chip 0 sends to 1, where two others send too, and to 3: three quarters and a bit of its link are for 3."""
    rows = [(0, 1, 1e5), (2, 1, 1e5), (4, 1, 1e5), (0, 3, 2e5)]
    found = Packet(size=500.0).run(star(5), table(rows), Transport(name="t"))
    flow = Flow().run(star(5), table(rows), Transport(name="t"))
    assert found.end == pytest.approx(flow.end, rel=0.03)


@pytest.mark.parametrize("chunk", range(6))
def test_flows_are_within_five_percent_of_packets(chunk: int) -> None:
    """60 random networks, sends and transports; messages of 100 to 400 packets."""
    apart, of_sends = [], []
    for seed in range(10 * chunk, 10 * chunk + 10):
        random = np.random.default_rng(seed)
        network = random_network(random)
        sends = random_sends(random, network.chips)
        how = {"transport": TRANSPORTS[seed % 2], "routing": POLICIES[seed % 3]}
        flow, packet = Flow().run(network, sends, **how), Packet(size=1000.0).run(network, sends, **how)  # type: ignore[arg-type]
        apart.append(abs(flow.seconds / packet.seconds - 1.0))
        of_sends.append(np.median(np.abs(flow.end / packet.end - 1.0)))
        assert packet.carried == pytest.approx(flow.carried, abs=1000.0 * len(sends))
    assert max(apart) <= 0.05
    assert np.median(apart) <= 0.01
    assert max(of_sends) <= 0.05


def test_mistakes_are_told() -> None:
    with pytest.raises(UserError, match="size of packets"):
        Packet(size=0.0)
    with pytest.raises(UserError, match="credits of packets"):
        Packet(credits=0)
    with pytest.raises(UserError, match="circle"):
        Packet().run(star(2), table([(0, 1, 1.0), (1, 0, 1.0)], {0: [1], 1: [0]}), Transport(name="t"))
