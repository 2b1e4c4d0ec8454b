"""The flow level: small cases by hand, and laws that hold for all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.flow import fair, traffic
from trainshed.fabric.flow.fair import Clock, Flow
from trainshed.fabric.flow.loads import loads
from trainshed.fabric.flow.sends import Run, Sends, Transport
from trainshed.fabric.network.graph import Network
from trainshed.fabric.network.routing import POLICIES

from .conftest import random_network, random_sends, star, table

PLAIN = Transport(name="plain")
BUSY = Transport(
    name="busy", hop={"in": 1e-6, "out": 2e-6}, message={"out": 3e-6}, launch={"in": 5e-6, "out": 9e-6},
    reach={"in": 0.8, "out": 0.9}, inject=1.2e9,
)  # fmt: skip
seeds, policies = st.integers(0, 10**6), st.sampled_from(POLICIES)


def run(network: Network, sends: Sends, transport: Transport = PLAIN, routing: str = "spray") -> Run:
    return Flow().run(network, sends, transport, routing=routing)


def case(seed: int, *, waiting: bool = True) -> tuple[Network, Sends]:
    random = np.random.default_rng(seed)
    network = random_network(random)
    return network, random_sends(random, network.chips, waiting=waiting)


def test_one_send() -> None:
    transport = Transport(
        name="t", launch={"rack": 5e-6}, hop={"rack": 2e-6}, message={"rack": 1e-6}, reach={"rack": 0.5}
    )
    found = run(star(2), table([(0, 1, 1e6)], earliest=1e-3), transport)
    assert found.begin[0] == pytest.approx(1e-3 + 8e-6)
    assert found.end[0] == pytest.approx(1e-3 + 8e-6 + 1e6 / 0.5e9 + 1e-6)
    assert found.carried == pytest.approx([1e6, 0.0, 0.0, 1e6])
    assert found.peak == pytest.approx([1.0, 0.0, 0.0, 1.0])


def test_flows_that_meet_share_and_then_have_all() -> None:
    """Two into one chip: half each until the smaller one is through."""
    found = run(star(3), table([(0, 2, 1e6), (1, 2, 3e6)]))
    assert found.end == pytest.approx([2e-3 + 1e-6, 4e-3 + 1e-6])


def test_a_flow_that_is_met_on_its_way_goes_on_with_what_is_left() -> None:
    found = run(star(3), replace(table([(0, 2, 2e6), (1, 2, 2e6)]), earliest=np.array([0.0, 1e-3])))
    assert found.end == pytest.approx([3e-3 + 1e-6, 4e-3 + 1e-6])
    assert found.carried[5] == pytest.approx(4e6)


def test_dependents_start_when_the_last_byte_has_arrived() -> None:
    found = run(star(3), table([(0, 1, 1e6), (1, 2, 1e6)], {1: [0]}), Transport(name="t", hop={"rack": 2e-6}))
    assert found.begin[1] == pytest.approx(found.end[0] + 2e-6)


def test_a_chip_issues_one_message_after_another() -> None:
    transport = Transport(name="t", message={"rack": 1e-5})
    found = run(star(4), table([(0, 1, 10.0), (0, 2, 10.0), (1, 2, 10.0), (0, 3, 10.0)]), transport)
    assert found.begin == pytest.approx([1e-5, 2e-5, 1e-5, 3e-5])


def test_sends_of_a_connection_go_in_order_those_of_two_collectives_share() -> None:
    rows = [(0, 1, 1e6), (0, 1, 1e6)]
    late = np.array([0.0, 1e-4])
    in_order = run(star(2), replace(table(rows), earliest=late))
    assert in_order.end == pytest.approx([1e-3 + 1e-6, 2e-3 + 1e-6])
    assert in_order.begin == pytest.approx([0.0, 1e-3])
    shared = run(star(2), replace(table(rows, group=[0, 1]), earliest=late))
    assert shared.end == pytest.approx([1.9e-3 + 1e-6, 2e-3 + 1e-6])
    together = run(star(2), table(rows))
    assert together.end == pytest.approx([2e-3 + 1e-6] * 2)


def test_engines_of_a_chip_are_one_more_link() -> None:
    sends = table([(0, 1, 1e6), (0, 2, 1e6)])
    wide = replace(star(3), bandwidth=np.array([4e9, 4e9, 1e9, 1e9, 1e9, 1e9]))
    assert run(wide, sends).seconds == pytest.approx(1e-3 + 1e-6)
    limited = run(wide, sends, Transport(name="t", inject=5e8))
    assert limited.seconds == pytest.approx(4e-3 + 1e-6)
    assert len(limited.carried) == wide.links


def test_the_last_step_is_a_copy() -> None:
    transport = Transport(name="t", hop={"rack": 2e-6}, last_step={"rack": 0.5})
    found = run(star(3), table([(0, 1, 1e6), (1, 2, 1e6)], {1: [0]}), transport)
    assert found.seconds == pytest.approx(2 * (1e-3 + 3e-6) + 0.5e-3 + 3e-6)


def test_nothing_takes_no_time_but_latency() -> None:
    found = run(star(2), table([(0, 1, 0.0), (0, 0, 1e6), (1, 0, 0.0)], {2: [0]}))
    assert found.end == pytest.approx([1e-6, 0.0, 2e-6])
    empty = table([(0, 1, 1.0)])
    none = Sends(
        source=empty.source[:0], target=empty.target[:0], size=empty.size[:0], first=np.zeros(1, np.int64),
        before=empty.before, earliest=empty.earliest[:0], group=empty.group[:0],
    )  # fmt: skip
    assert run(star(2), none).seconds == 0.0


def test_a_symmetrical_step_is_a_handful_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    chips = 64
    rows = [(a, b, 1e5) for a in range(chips) for b in range(chips) if a != b]
    times = []
    happen = Clock._happen
    monkeypatch.setattr(Clock, "_happen", lambda clock: (times.append(clock.now), happen(clock)))
    assert run(star(chips), table(rows)).seconds == pytest.approx(63 * 1e5 / 1e9 + 1e-6)
    assert len(times) <= 4


def test_circles_and_chips_that_do_not_exist_are_told() -> None:
    with pytest.raises(UserError, match=r"wait for each other in a circle.*2 sends"):
        run(star(3), table([(0, 1, 1.0), (1, 2, 1.0), (2, 0, 1.0)], {0: [1], 1: [0]}))
    with pytest.raises(UserError, match="target of send 0 is no chip"):
        run(star(3), table([(0, 3, 1.0)]))
    with pytest.raises(UserError, match="size of a send"):
        table([(0, 1, -1.0)])
    with pytest.raises(UserError, match="earliest time of a send"):
        table([(0, 1, 1.0)], earliest=float("nan"))
    with pytest.raises(ValueError, match="does not exist"):
        table([(0, 1, 1.0)], {0: [5]})


@settings(max_examples=40, deadline=None)
@given(seed=seeds, routing=policies, transport=st.sampled_from([PLAIN, BUSY]))
def test_conservation_capacity_and_bounds(seed: int, routing: str, transport: Transport) -> None:
    network, sends = case(seed)
    found, table_ = run(network, sends, transport, routing), loads(network, sends, transport, routing)
    size = np.diff(table_.first)[table_.pair]
    entry = np.repeat(table_.first[table_.pair] - np.cumsum(size) + size, size) + np.arange(size.sum())
    bytes_ = np.repeat(sends.size, size) * table_.share[entry]
    owed = np.bincount(table_.link[entry], weights=bytes_, minlength=len(table_.capacity))
    assert found.carried == pytest.approx(owed[: network.links], rel=1e-6, abs=1e-3)
    assert (found.peak <= 1 + 1e-9).all()
    assert (found.peak[found.carried > 0] > 0).all()
    assert np.isfinite(found.end).all()
    assert (found.begin >= table_.start - 1e-18).all()
    alone = sends.size * np.array([
        max(table_.share[a:b] / table_.capacity[table_.link[a:b]]) for a, b in zip(
            table_.first[table_.pair], table_.first[table_.pair + 1], strict=True)
    ])  # fmt: skip
    assert (found.end >= (found.begin + alone + table_.latency[table_.pair]) * (1 - 1e-9)).all()
    assert found.seconds >= (owed / table_.capacity).max() * (1 - 1e-9)
    for send in range(len(sends)):
        for before in sends.before[sends.first[send] : sends.first[send + 1]]:
            assert found.begin[send] >= (found.end[before] + table_.hop[table_.pair[send]]) * (1 - 1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, routing=policies)
def test_one_by_one_and_by_columns_give_the_same(seed: int, routing: str) -> None:
    network, sends = case(seed)
    one = run(network, sends, BUSY, routing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fair, "FEW", 0)
        patch.setattr(traffic, "FEW", 0)
        other = run(network, sends, BUSY, routing)
    assert other.end == pytest.approx(one.end, rel=1e-12)
    assert other.begin == pytest.approx(one.begin, rel=1e-12)
    assert other.carried == pytest.approx(one.carried, rel=1e-9)
    assert other.peak == pytest.approx(one.peak, rel=1e-9)
    again = run(network, sends, BUSY, routing)
    assert np.array_equal(again.end, one.end)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, factor=st.floats(1.0, 10.0))
def test_sends_at_once_take_longer_when_larger_and_no_longer_over_wider_links(seed: int, factor: float) -> None:
    """Without dependencies; with them a fair share elsewhere may come first (Graham's anomalies)."""
    network, sends = case(seed, waiting=False)
    network = replace(network, latency=np.zeros(network.links))
    found = run(network, sends).seconds
    assert run(network, replace(sends, size=sends.size * factor)).seconds == pytest.approx(found * factor, rel=1e-9)
    wider = replace(network, bandwidth=network.bandwidth * factor)
    assert run(wider, sends).seconds <= found * (1 + 1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, rate=st.floats(1e8, 1e10))
def test_a_link_that_no_route_takes_changes_nothing(seed: int, rate: float) -> None:
    """Adding a link under fixed routes; shortest ways of this network are those without it."""
    network, sends = case(seed)
    fixed = loads(network, sends, PLAIN)
    more = replace(fixed, capacity=np.append(fixed.capacity, rate), links=fixed.links + 1)
    old, new = Clock(sends, fixed).run(), Clock(sends, more).run()
    assert np.array_equal(old.end, new.end)
    assert new.carried[-1] == 0.0


@settings(max_examples=20, deadline=None)
@given(chips=st.integers(2, 24), size=st.floats(1.0, 1e8), factor=st.floats(1.0, 10.0), bandwidth=st.floats(1.0, 4.0))
def test_a_ring_is_monotone_in_size_and_in_its_links(chips: int, size: float, factor: float, bandwidth: float) -> None:
    """Each of two rounds around; every chip passes on what it got."""
    rows = [(c, (c + 1) % chips, size) for _ in range(2 * chips) for c in range(chips)]
    waits = {k: [k - chips + (-1 if k % chips else chips - 1)] for k in range(chips, len(rows))}
    sends, network = table(rows, waits), star(chips)
    found = run(network, sends, BUSY).seconds
    assert found == pytest.approx(2 * chips * (size / 1e9 + 1e-6), rel=1e-9)
    assert run(network, replace(sends, size=sends.size * factor), BUSY).seconds >= found * (1 - 1e-9)
    # one link of the ring slower: nobody is faster
    slow = network.bandwidth.copy()
    slow[0] /= bandwidth
    assert run(replace(network, bandwidth=slow), sends, BUSY).seconds >= found * (1 - 1e-9)
