"""Small systems with many layers, and what a full simulation says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.network.build import network
from trainshed.fabric.network.placement import place
from trainshed.fabric.scale import fans
from trainshed.fabric.schedule import schedule, sends
from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.schema import Constant, Level, System

TRANSPORT = Transport(
    name="test", launch={"rack": 2e-6, "network": 5e-6, "outer": 3e-6},
    hop={"sled": 0.5e-6, "rack": 0.6e-6, "ultraserver": 0.7e-6, "network": 8e-6, "inner": 0.4e-6, "outer": 0.9e-6},
    message={"network": 0.5e-6}, reach={"network": 0.85, "rack": 0.75, "inner": 0.8},
)  # fmt: skip


@pytest.fixture(scope="session")
def trn3() -> System:
    return Catalogue().system("trn3-gen2")


def _with(constant: Constant, value: float) -> Constant:
    return constant.with_value(value)


@pytest.fixture(scope="session")
def layered(trn3: System) -> System:
    """Nodes of six chips behind a switch, on a Clos of switches with four ports: many layers, leaves across nodes."""
    sled, far = trn3.levels[1], trn3.levels[-1]
    node = replace(sled, name="inner", chips=6)
    far = replace(far, fitted={**far.fitted, "radix": _with(far.fitted["radix"], 4.0)})
    return replace(trn3, name="layered", levels=(node, far), max_chips=1000)


@pytest.fixture(scope="session")
def switched(trn3: System) -> System:
    """Two levels of switches: eight chips, and 64 of them."""
    sled = trn3.levels[1]
    outer = replace(
        sled, name="outer", chips=64, bandwidth=_with(sled.bandwidth, 1e11), latency=_with(sled.latency, 5e-6)
    )
    return replace(trn3, name="switched", levels=(replace(sled, name="inner", chips=8), outer), max_chips=64)


def full(kind: str, size: float, system: System, chips: int, transport: Transport, ways: str | Sequence[str]) -> float:
    """Seconds of every single send on the whole graph."""
    levels: Sequence[tuple[Level, int]] = fans(system, chips)
    graph = network(system, chips)
    steps = schedule(kind, "hierarchical", chips, levels=[fan for _, fan in levels], ways=ways)
    return Flow().run(graph, sends(steps, size, place(graph, chips)), transport).seconds


@pytest.fixture(scope="session")
def in_full():
    return full
