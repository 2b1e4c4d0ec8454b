"""Ranks on cores, chips, sleds, racks: orders and their mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.network.build import network
from trainshed.fabric.network.faults import fail
from trainshed.fabric.network.graph import Network
from trainshed.fabric.network.placement import place
from trainshed.hardware import Catalogue


@pytest.fixture(scope="module")
def ultraserver() -> Network:
    return network(Catalogue().system("trn3-gen2"), 144)


def test_packed_fills_cores_then_chips_then_sleds(ultraserver: Network) -> None:
    table = place(ultraserver, 12, 2).table()
    assert table["chip"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert table["core"].tolist() == [0, 1] * 6
    assert table["sled"].tolist() == [0] * 8 + [1] * 4
    assert set(table) >= {"core", "chip", "sled", "rack", "ultraserver"}


def test_spread_goes_from_domain_to_domain(ultraserver: Network) -> None:
    assert place(ultraserver, 37, order="spread").chip.tolist() == [*range(0, 144, 4), 1]
    assert place(ultraserver, 6, order="spread:rack").chip.tolist() == [0, 72, 1, 73, 2, 74]


def test_stride_takes_every_nth_chip(ultraserver: Network) -> None:
    assert place(ultraserver, 6, order="stride:72").chip.tolist() == [0, 72, 1, 73, 2, 74]
    assert place(ultraserver, 4, order="stride:4").chip.tolist() == [0, 4, 8, 12]


def test_orders_pass_over_failed_chips(ultraserver: Network) -> None:
    broken = fail(ultraserver, ["chip 1", "chip 72"])
    assert place(broken, 4).chip.tolist() == [0, 2, 3, 4]
    assert place(broken, 4, order="spread:rack").chip.tolist() == [0, 73, 2, 74]
    with pytest.raises(UserError, match="142 chips"):
        place(broken, 143)


def test_a_list_of_the_user(ultraserver: Network) -> None:
    placement = place(ultraserver, 4, 2, [9, 3, 9, 3])
    assert placement.chip.tolist() == [9, 3, 9, 3]
    assert placement.core.tolist() == [0, 0, 1, 1]


@settings(max_examples=40, deadline=None)
@given(
    per=st.integers(1, 4),
    order=st.sampled_from(["packed", "spread", "spread:rack", "stride:1", "stride:7", "stride:200"]),
)
def test_every_order_uses_all_chips_alike(ultraserver: Network, per: int, order: str) -> None:
    placement = place(ultraserver, 144 * per, per, order)
    assert (np.bincount(placement.chip, minlength=144) == per).all()
    assert len(placement) == 144 * per
    assert set(placement.core.tolist()) == set(range(per))


@pytest.mark.parametrize(
    ("ranks", "per", "order", "message"),
    [
        (145, 1, "packed", r"ranks to place: 145; expected 1 to 144 \(144 chips of 1\)"),
        (0, 1, "packed", "ranks to place"),
        (4, 0, "packed", "ranks of a chip"),
        (4, 1, "spread:pod", "unknown domain to spread over: 'pod'"),
        (4, 1, "stride:x", "stride of a placement"),
        (4, 1, "stride:0", "stride of a placement"),
        (4, 1, "best", "unknown order of a placement: 'best'"),
        (3, 1, [0, 1], "one chip for each of 3 ranks"),
        (2, 1, [0, 144], "chip of a rank: 144; expected 0 to 143"),
        (2, 1, [5, 5], "ranks on chip 5: 2; expected at most 1"),
        (2, 1, [0.5, 1.0], "list of chips"),
    ],
)
def test_mistakes(ultraserver: Network, ranks: int, per: int, order: str | list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        place(ultraserver, ranks, per, order)
