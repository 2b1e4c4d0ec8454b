"""Classes: the same run as every send by itself, from fewer sends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.loads import loads
from trainshed.fabric.flow.sends import Run, Sends, Transport
from trainshed.fabric.network.build import network
from trainshed.fabric.network.faults import fail
from trainshed.fabric.network.graph import Network
from trainshed.fabric.network.placement import place
from trainshed.fabric.scale import Classes, Symmetric
from trainshed.fabric.schedule import join, schedule, sends
from trainshed.hardware.catalogue import Catalogue

TRANSPORT = Transport(name="test", hop={"sled": 1e-6, "rack": 2e-6, "server": 1e-6, "network": 3e-6})
BUSY = replace(TRANSPORT, message={"sled": 0.3e-6, "rack": 0.2e-6, "network": 0.4e-6}, inject=3e11)


def same(one: Run, other: Run) -> None:
    for name in ("begin", "end", "carried", "peak"):
        assert np.allclose(getattr(one, name), getattr(other, name), rtol=1e-9, atol=0.0), name


CASES = [
    ("trn3-gen2", 12, "all_reduce", "mesh", 40), ("trn3-gen2", 16, "all_to_all", "direct", 200),
    ("trn2", 16, "all_reduce", "rhd", 60), ("trn1", 16, "all_gather", "ring", 120),
    ("p5", 24, "all_reduce", "tree", 800), ("trn3-gen2", 24, "broadcast", "tree", 300),
]  # fmt: skip


@pytest.mark.parametrize("transport", [TRANSPORT, BUSY], ids=["plain", "busy"])
@pytest.mark.parametrize(("system", "chips", "kind", "algorithm", "most"), CASES)
def test_same_run(system: str, chips: int, kind: str, algorithm: str, most: int, transport: Transport) -> None:
    graph = network(Catalogue().system(system), chips)
    some = sends(schedule(kind, algorithm, chips), 3e7, place(graph, chips))
    classes = Classes.of(some, loads(graph, some, transport))
    same(classes.run(), Flow().run(graph, some, transport))
    if transport is TRANSPORT:
        assert len(classes.sends) <= min(most, len(some))


def test_a_mesh_is_one_class_per_kind_of_peer() -> None:
    graph = network(Catalogue().system("trn3-gen2"), 72)
    some = sends(schedule("all_gather", "mesh", 72), 1e8, place(graph, 72))
    classes = Classes.of(some, loads(graph, some, TRANSPORT))
    assert len(some) == 72 * 71
    assert len(classes.sends) == 2  # three peers of the sled, 68 of the rack


def test_a_broken_link_splits_classes() -> None:
    graph = fail(network(Catalogue().system("trn3-gen2"), 64), ["chip 3 -> sled 0"])
    some = sends(schedule("all_reduce", "mesh", 64), 1e8, place(graph, 64))
    classes = Classes.of(some, loads(graph, some, TRANSPORT))
    assert 4 < len(classes.sends) < len(some) / 10
    same(classes.run(), Flow().run(graph, some, TRANSPORT))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_any_sends(seed: int, busy: bool) -> None:
    """Unequal, overlapping, dependent sends of several collectives: few classes or none, and the same run."""
    random = np.random.default_rng(seed)
    graph = network(Catalogue().system("trn3-gen2"), 72)
    parts = []
    for group in range(int(random.integers(1, 4))):
        ranks = int(random.integers(2, 9))
        chips = random.permutation(24)[:ranks]
        name = str(random.choice(["mesh", "rhd", "ring", "one_shot_mesh"]))
        steps = schedule("all_reduce", name, ranks)
        where = place(graph, ranks, order=chips)
        parts.append(sends(steps, float(random.choice([1e5, 3e7])), where, float(random.choice([0.0, 2e-6])), group))
    some = join(parts)
    transport = BUSY if busy else TRANSPORT
    same(Symmetric().run(graph, some, transport), Flow().run(graph, some, transport))


def test_circles_are_said() -> None:
    circle = Sends(
        source=np.array([0, 1]), target=np.array([1, 0]), size=np.ones(2), first=np.array([0, 1, 2]),
        before=np.array([1, 0]), earliest=np.zeros(2), group=np.zeros(2, np.int64),
    )  # fmt: skip
    graph: Network = network(Catalogue().system("trn3-gen2"), 4)
    with pytest.raises(UserError, match="circle"):
        Symmetric().run(graph, circle, TRANSPORT)
