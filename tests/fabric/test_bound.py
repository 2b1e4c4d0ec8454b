"""Lower bounds: by hand, and below every algorithm (test_collective has the law)."""

from __future__ import annotations

import pytest

from trainshed.fabric import Group, collective
from trainshed.hardware.schema import Level

from .conftest import WIRE, level

S = 1e9


def bound(levels: tuple[Level, ...], kind: str, n: int, stride: int = 1) -> float:
    return float(collective(kind, size=S, group=Group(ranks=n, stride=stride), levels=levels).lower_bound.value)


@pytest.mark.parametrize(
    ("kind", "share"), [("all_reduce", 14 / 8), ("all_gather", 7 / 8), ("reduce_scatter", 7 / 8), ("all_to_all", 7 / 8),
                        ("permute", 1.0), ("broadcast", 1.0)]
)  # fmt: skip
def test_behind_one_switch_the_data_sheet_rate_bounds(switch: tuple[Level, ...], kind: str, share: float) -> None:
    assert bound(switch, kind, 8) == pytest.approx(WIRE + share * S / 100e9)


def test_a_switch_that_adds_halves_the_bound() -> None:
    lv = (
        level(
            "rack",
            64,
            100e9,
            reduction_in_network=True,
            in_network=0.9,
            in_network_latency=1e-6,
            in_network_pass=1e-7,
            in_network_sync=0.1,
        ),
    )
    assert bound(lv, "all_reduce", 8) == pytest.approx(WIRE + S / 100e9)


def test_the_narrowest_level_bounds_two(two_levels: tuple[Level, ...]) -> None:
    """Four nodes: 2 · 3/4 of the buffer leaves each node over eight adapters; inside, both levels' links count."""
    assert bound(two_levels, "all_reduce", 32) == pytest.approx(WIRE + max(1.5 * S / 8 / 50e9, 62 / 32 * S / 450e9))
    assert bound(two_levels, "all_to_all", 32) == pytest.approx(WIRE + 24 / 32 * S / 50e9)


def test_one_buffer_of_a_permute_leaves_a_domain(two_levels: tuple[Level, ...]) -> None:
    """Of eight members of a node one has its neighbour in another, and can send over all adapters of the node."""
    assert bound(two_levels, "permute", 32) == pytest.approx(WIRE + S / 8 / 50e9)
    assert bound(two_levels, "permute", 4, stride=8) == pytest.approx(WIRE + S / 50e9)
