"""Levels made in the test, so that no number of the catalogue can move a closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from trainshed.core import Constant
from trainshed.hardware.schema import Level

LAUNCH, HOP, WIRE, REACH = 7e-6, 2e-6, 1e-6, 0.8
#: Starts and hops of the tables that choose a ring's protocol.
PLANNED = {
    "planned_start": 6e-6, "planned_line_start": 14e-6, "planned_bulk_start": 8e-6,
    "planned_hop": 0.6e-6, "planned_line_hop": 1.9e-6, "planned_bulk_hop": 3.4e-6,
}  # fmt: skip


def constant(name: str, value: float, unit: str) -> Constant:
    """A number of the test."""
    return Constant(name=name, value=value, unit=unit, status="estimated", source="the test")


def level(
    name: str, chips: int, bandwidth: float, *, topology: str = "switch", key: str = "wire", dims: tuple[int, ...] = (),
    **more: float | bool | tuple[int, ...],
) -> Level:  # fmt: skip
    """A level with plain α-β constants; further mechanisms by keyword."""
    fields = {k: v for k, v in more.items() if k in ("reduction_in_network", "rings", "algorithms")}
    further = {k: v for k, v in more.items() if k not in fields}
    mechanisms = {"launch": LAUNCH, "hop": HOP, "efficiency": REACH} | further
    seconds = (
        "launch",
        "hop",
        "in_network_latency",
        "in_network_pass",
        "pair",
        "layer",
        "message",
        "line",
        "line_start",
        "bulk",
        "bulk_start",
        *PLANNED,
    )
    units = dict.fromkeys(seconds, "s")
    return Level(
        name=name, chips=chips, topology=topology, dims=dims, interconnect=key,  # type: ignore[arg-type]
        bandwidth=constant(f"system/x.{name}.bandwidth", bandwidth, "B/s"),
        latency=constant(f"system/x.{name}.latency", WIRE, "s"),
        fitted={k: constant(f"interconnect/{key}.{k}", float(v), units.get(k, "1")) for k, v in mechanisms.items()},  # type: ignore[arg-type]
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def make_level() -> Callable[..., Level]:
    """``level`` for the tests."""
    return level


@pytest.fixture
def switch() -> tuple[Level, ...]:
    """One switch of 1,024 chips at 100 GB/s each."""
    return (level("rack", 1024, 100e9),)


@pytest.fixture
def two_levels() -> tuple[Level, ...]:
    """Nodes of 8 behind a switch at 400 GB/s, a network at 50 GB/s per chip."""
    return (level("node", 8, 400e9, key="fast"), level("network", 1_000_000, 50e9, topology="leaf-spine", key="slow"))


@pytest.fixture
def torus() -> tuple[Level, ...]:
    """A 4 x 4 torus of 100 GB/s links: 400 GB/s per chip."""
    return (level("server", 16, 400e9, topology="torus", dims=(4, 4)),)
