"""Rings over link-disjoint cycles: they are cycles, they share no link, and the sums are right."""

import numpy as np
import pytest

from trainshed.fabric.network.build import network
from trainshed.fabric.schedule.channels import cycles, over_domains, rings
from trainshed.fabric.schedule.check import check
from trainshed.fabric.schedule.reductions import schedule_of
from trainshed.fabric.schedule.replay import replay
from trainshed.hardware import Catalogue


@pytest.mark.parametrize(("system", "chips", "count"), [("trn2", 16, 4), ("trn1", 16, 4), ("trn3-gen2", 4, 0)])
def test_a_torus_falls_into_cycles_that_share_no_link(system, chips, count):
    net = network(Catalogue().system(system), chips)
    found = cycles(net)
    assert len(found) == count
    links = set(zip(net.source.tolist(), net.target.tolist(), strict=True))
    used = [(int(a), int(b)) for order in found for a, b in zip(order, np.roll(order, -1), strict=True)]
    assert len(used) == len(set(used)) == count * chips
    assert set(used) <= links
    assert all(sorted(order.tolist()) == list(range(chips)) for order in found)


@pytest.mark.parametrize(("mirrored", "domains"), [(False, 3), (True, 4)])
def test_rings_over_domains_pass_each_chip_once_and_leave_from_different_chips(mirrored, domains):
    inside = cycles(network(Catalogue().system("trn2"), 16))
    orders = over_domains(inside, domains, 2, mirrored=mirrored)
    assert len(orders) == 2 * len(inside)
    assert all(sorted(order.tolist()) == list(range(16 * domains)) for order in orders)
    crossings = [
        (a, b) for order in orders for a, b in zip(order, np.roll(order, -1), strict=True) if a // 16 != b // 16
    ]
    assert len({a for a, _ in crossings}) == len({b for _, b in crossings}) == len(crossings) == len(orders) * domains
    if mirrored:  # a link of its own joins chips at the same place
        assert all(a % 16 == b % 16 for a, b in crossings)


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter"])
def test_every_rank_ends_with_the_right_data(kind):
    orders = [np.array([0, 2, 4, 1, 3]), np.array([3, 1, 4, 2, 0]), np.arange(5)]
    made = schedule_of(kind, 5, rings(orders))
    check(made)
    if kind == "all_reduce":
        data = np.random.default_rng(1).integers(-9, 9, (5, 33))
        assert (replay(made, data) == data.sum(axis=0)).all()
