"""Flat algorithms over two levels of switches, against every send."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.network.build import network
from trainshed.fabric.network.placement import place
from trainshed.fabric.scale import flat_ring, hierarchical
from trainshed.fabric.schedule import schedule, sends
from trainshed.hardware.schema import System

TRANSPORT = Transport(
    name="test", launch={"outer": 3e-6}, hop={"inner": 0.4e-6, "outer": 0.9e-6}, message={"outer": 0.2e-6},
    reach={"inner": 0.8}, last_step={"outer": 0.5},
)  # fmt: skip


def in_full(kind: str, algorithm: str, size: float, system: System, chips: int) -> float:
    graph = network(system, chips)
    return Flow().run(graph, sends(schedule(kind, algorithm, chips), size, place(graph, chips)), TRANSPORT).seconds


@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter", "all_gather"])
@pytest.mark.parametrize("size", [1e4, 1e8])
def test_ring(kind: str, size: float, switched: System) -> None:
    found = flat_ring(kind, size, switched, 24, TRANSPORT)
    assert found == pytest.approx(in_full(kind, "ring", size, switched, 24), rel=1e-6)


def test_a_long_ring_is_paced_by_its_slowest_link(switched: System) -> None:
    """1 GB over 64 chips: 2 · 63 steps of the link between domains, and little else."""
    found = flat_ring("all_reduce", 1e9, switched, 64, Transport(name="wires"))
    assert found == pytest.approx(2 * 63 * (5e-6 + 1e9 / 64 / 1e11), rel=0.02)


def test_flat_rhd_of_powers_of_two_is_the_hierarchical_one(switched: System) -> None:
    found = hierarchical("all_reduce", 1e8, switched, 32, TRANSPORT, "rhd").seconds
    assert found == pytest.approx(in_full("all_reduce", "rhd", 1e8, switched, 32), rel=1e-9)


def test_bad_rings_are_refused(switched: System, trn3: System) -> None:
    with pytest.raises(UserError, match="switches alone"):
        flat_ring("all_reduce", 1e6, trn3, 288, TRANSPORT)
    with pytest.raises(UserError, match="2 to 64"):
        flat_ring("all_reduce", 1e6, switched, 65, TRANSPORT)
    with pytest.raises(UserError, match="broadcast"):
        flat_ring("broadcast", 1e6, switched, 8, TRANSPORT)
    assert np.isfinite(flat_ring("all_gather", 1e6, switched, 2, TRANSPORT))
