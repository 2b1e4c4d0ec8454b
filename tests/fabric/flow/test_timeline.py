"""What reports read of a run."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.flow.timeline import by_level, timeline

from .conftest import random_network, random_sends, star, table


def test_use_of_a_level() -> None:
    network = star(3)
    run = Flow().run(network, table([(0, 2, 1e6), (1, 2, 3e6)]), Transport(name="t", reach={"rack": 0.5}))
    (rack,) = by_level(network, run)
    assert (rack.level, rack.links, rack.used, rack.busiest) == ("rack", 6, 3, "switch -> chip 2")
    assert rack.carried == pytest.approx(8e6)
    assert rack.most == pytest.approx(4e6)
    assert rack.peak == pytest.approx(1.0)
    assert rack.mean == pytest.approx(8e6 / (6 * 1e9 * run.seconds))


def test_a_level_that_nobody_uses() -> None:
    random = np.random.default_rng(1)
    network = random_network(random)
    run = Flow().run(network, table([(0, 0, 1.0)]), Transport(name="t"))
    assert all(use.carried == use.peak == use.mean == 0.0 and use.busiest == "" for use in by_level(network, run))


def test_bars_come_in_order_and_do_not_overlap_on_a_lane() -> None:
    random = np.random.default_rng(5)
    network = random_network(random)
    sends = random_sends(random, network.chips)
    run = Flow().run(network, sends, Transport(name="t"))
    found = timeline(sends, run)
    assert sorted(found.send.tolist()) == list(range(len(sends)))
    assert (np.diff(found.begin) >= 0).all()
    assert np.array_equal(found.end, run.end[found.send])
    assert np.array_equal(found.size, sends.size[found.send])
    for chip in range(network.chips):
        for lane in range(int(found.lane.max()) + 1):
            bars = (found.source == chip) & (found.lane == lane)
            assert (found.begin[bars][1:] >= found.end[bars][:-1]).all()
    only = timeline(sends, run, np.array([0]))
    assert set(only.source.tolist()) <= {0}
    assert len(only) == int((sends.source == 0).sum())


def test_overlapping_bars_are_on_lanes_of_their_own() -> None:
    sends = table([(0, 1, 1e6), (0, 2, 1e6), (1, 2, 1e6), (0, 1, 1e6)], {3: [0, 1]})
    found = timeline(sends, Flow().run(star(3), sends, Transport(name="t")))
    assert found.lane[found.source == 0].tolist() == [0, 1, 0]
