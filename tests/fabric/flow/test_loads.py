"""Where sends load a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.flow.loads import loads
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.network.graph import Network

from .conftest import star, table


def two_levels() -> Network:
    """Chips 0 and 1 behind one switch, 2 and 3 behind another, a link between the switches."""
    pairs = [(0, 4, 0), (1, 4, 0), (2, 5, 0), (3, 5, 0), (4, 5, 1)]
    one, other, level = np.array(pairs).T
    return Network(
        name="two", chips=4, kinds=("chip", "switch"), kind=np.array([0, 0, 0, 0, 1, 1]),
        names=["a", "b", "c", "d", "e", "f"], levels=("sled", "rack"), source=np.concatenate([one, other]),
        target=np.concatenate([other, one]), level=np.tile(level, 2), bandwidth=np.full(10, 1e9),
        latency=np.full(10, 1e-6),
    )  # fmt: skip


def test_constants_are_those_of_the_outermost_level_of_a_way_and_of_a_collective() -> None:
    transport = Transport(
        name="t", launch={"sled": 1e-6, "rack": 5e-6}, hop={"sled": 2e-6, "rack": 3e-6}, message={"rack": 1e-7},
        reach={"rack": 0.5},
    )  # fmt: skip
    sends = table([(0, 1, 1.0), (0, 2, 1.0), (2, 3, 1.0), (0, 1, 1.0)], group=[7, 7, 3, 7], earliest=1e-3)
    found = loads(two_levels(), sends, transport)
    assert found.pair.tolist() == [0, 1, 2, 0]
    assert found.hop == pytest.approx([2e-6, 3e-6, 2e-6])
    assert found.message == pytest.approx([0.0, 1e-7, 0.0])
    assert found.latency == pytest.approx([2e-6, 3e-6, 2e-6])
    assert found.start == pytest.approx([1e-3 + 5e-6, 1e-3 + 5e-6, 1e-3 + 1e-6, 1e-3 + 5e-6])
    assert found.capacity[[0, 4, 9]] == pytest.approx([1e9, 0.5e9, 0.5e9])
    assert not found.finish.any()


def test_engines_are_links_only_where_they_could_limit() -> None:
    sends = table([(0, 1, 1.0), (1, 2, 1.0)])
    free = loads(star(3), sends, Transport(name="t", inject=1e9))
    assert len(free.capacity) == free.links == 6
    tight = loads(star(3), sends, Transport(name="t", inject=0.9e9))
    assert tight.capacity[6:] == pytest.approx([0.9e9] * 3)
    assert tight.link[tight.first[:-1]].tolist() == [6, 7]
    assert np.diff(tight.first).tolist() == [3, 3]


def test_last_copies_are_of_sends_that_nobody_waits_for() -> None:
    sends = table([(0, 1, 1e6), (1, 2, 1e6)], {1: [0]})
    found = loads(star(3), sends, Transport(name="t", hop={"rack": 2e-6}, last_step={"rack": 0.5}))
    assert found.finish == pytest.approx([0.0, 0.5e-3 + 3e-6])


def test_chips_without_a_way_and_unknown_routings_are_told() -> None:
    network = two_levels()
    cut = replace(
        network, **{name: np.delete(getattr(network, name), [4, 9]) for name in
                    ("source", "target", "level", "bandwidth", "latency")}
    )  # fmt: skip
    with pytest.raises(UserError, match="no way"):
        loads(cut, table([(0, 2, 1.0)]), Transport(name="t"))
    with pytest.raises(UserError, match="unknown routing"):
        loads(network, table([(0, 2, 1.0)]), Transport(name="t"), "random")
    with pytest.raises(UserError, match="source of send 0 is no chip"):
        loads(network, table([(5, 2, 1.0)]), Transport(name="t"))
