"""Beside ASTRA-sim's analytical backend (congestion unaware), where its assumptions hold: rings, nothing shared.

Its rule, from its source (astra-network-analytical, ``BasicTopology::compute_communication_delay``): a message takes
hops · latency + bytes / bandwidth, a switch is two hops, a neighbour on a ring one; a GB is 2^30 bytes, times are whole
ns. Its ring collectives send S/n in each of n − 1 steps a pass; one after another over the dimensions.

``RAN`` is what it printed when it was run: astra-sim at 4b6e027 with astra-network-analytical at 599a047, two switches
at 50 and 25 · 10^9 B/s and 250 ns a hop, ``localBWAware``, one chunk, endpoint delay 1 ns, local memory 10^6 GB/s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.network.build import network
from trainshed.fabric.network.placement import place
from trainshed.fabric.scale import hierarchical
from trainshed.fabric.schedule import schedule, sends
from trainshed.hardware.schema import System

WIRES = Transport(name="wires")
#: Seconds of an all_reduce of 1 GiB by algorithm and dimensions.
RAN = {
    ("rhd", (8, 8)): 46.983568e-3, ("ring", (8, 8)): 46.993369e-3, ("rhd", (32, 32)): 44.219532e-3,
    ("ring", (32, 32)): 44.273211e-3, ("rhd", (64, 128)): 43.624870e-3,
    ("ring", (64, 128)): 43.803419e-3,
}  # fmt: skip
RAN_RING_OF_8 = 37.590785e-3


def astra(size: float, dims: Sequence[int], rates: Sequence[float], latency: Sequence[float]) -> float:
    """Seconds of an all_reduce by rings over dimensions, scattered inwards to outwards and gathered back."""
    total, left = 0.0, size
    for n, rate, late in zip(dims, rates, latency, strict=True):
        left /= n
        total += 2 * (n - 1) * (late + left / rate)
    return total


@pytest.mark.parametrize("size", [1e6, 2**30])
@pytest.mark.parametrize("chips", [4, 8, 16])
def test_ring_on_ring(chips: int, size: float, trn3: System) -> None:
    base = trn3.levels[3]
    level = replace(
        base, name="ring", chips=chips, dims=(chips,), bandwidth=base.bandwidth.with_value(100e9),
        latency=base.latency.with_value(0.5e-6),
    )  # fmt: skip
    system = replace(trn3, name="ring", levels=(level,), max_chips=chips)
    graph = network(system, chips)
    steps = sends(schedule("all_reduce", "ring", chips), size, place(graph, chips))
    wanted = astra(size, [chips], [50e9], [0.5e-6])  # one of a chip's two links
    assert Flow().run(graph, steps, WIRES).seconds == pytest.approx(wanted, rel=0.02)
    assert hierarchical("all_reduce", size, system, chips, WIRES, "ring").seconds == pytest.approx(wanted, rel=0.02)


def switches(dims: tuple[int, int], trn3: System) -> System:
    """Two levels of switches, 0.5 us from chip to chip."""
    base, chips = trn3.levels[1], int(np.prod(dims))
    levels = tuple(
        replace(base, name=name, chips=count, bandwidth=base.bandwidth.with_value(rate),
                latency=base.latency.with_value(0.5e-6))
        for name, count, rate in (("inner", dims[0], 50e9), ("outer", chips, 25e9))
    )  # fmt: skip
    return replace(trn3, name="switches", levels=levels, max_chips=chips)


@pytest.mark.parametrize("size", [1e6, 2**30])
@pytest.mark.parametrize("dims", [(8, 8), (32, 32), (64, 128)])
def test_rings_over_two_levels_of_switches(dims: tuple[int, int], size: float, trn3: System) -> None:
    found = hierarchical("all_reduce", size, switches(dims, trn3), int(np.prod(dims)), WIRES, "ring")
    assert found.seconds == pytest.approx(astra(size, dims, [50e9, 25e9], [0.5e-6] * 2), rel=0.02)


@pytest.mark.parametrize(("way", "dims"), RAN)
def test_what_it_printed(way: str, dims: tuple[int, int], trn3: System) -> None:
    found = hierarchical("all_reduce", 2**30, switches(dims, trn3), int(np.prod(dims)), WIRES, way)
    assert found.seconds == pytest.approx(RAN[way, dims], rel=1e-3)


def test_its_rule_is_what_it_printed() -> None:
    assert astra(2**30, [8], [50e9], [0.5e-6]) == pytest.approx(RAN_RING_OF_8, rel=1e-3)
