"""Closed forms of each algorithm, on one level and on two."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric import Group, collective
from trainshed.hardware.schema import Level

from .conftest import HOP, LAUNCH, REACH, WIRE, level

S = 64e6
ALPHA = HOP + WIRE


def take(levels: tuple[Level, ...], kind: str, algorithm: str, n: float, size: float = S, **more: float) -> float:
    group = Group(ranks=n)
    return float(collective(kind, size=size, group=group, levels=levels, algorithm=algorithm, **more).time.value)


@pytest.mark.parametrize("n", [2, 3, 8, 100])
@pytest.mark.parametrize(("kind", "rounds"), [("all_reduce", 2), ("all_gather", 1), ("reduce_scatter", 1)])
def test_ring(switch: tuple[Level, ...], kind: str, rounds: int, n: int) -> None:
    expected = LAUNCH + rounds * (n - 1) * ALPHA + rounds * (n - 1) / n * S / (100e9 * REACH)
    assert take(switch, kind, "ring", n) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 4, 8, 64])
@pytest.mark.parametrize(("kind", "rounds"), [("all_reduce", 2), ("all_gather", 1), ("reduce_scatter", 1)])
def test_recursive_halving_and_doubling(switch: tuple[Level, ...], kind: str, rounds: int, n: int) -> None:
    expected = LAUNCH + rounds * math.log2(n) * ALPHA + rounds * (n - 1) / n * S / (100e9 * REACH)
    assert take(switch, kind, "rhd", n) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 3, 8, 64])
def test_mesh_and_its_single_step_form(switch: tuple[Level, ...], n: int) -> None:
    two = LAUNCH + 2 * ALPHA + 2 * (n - 1) / n * S / (100e9 * REACH)
    one = LAUNCH + ALPHA + (n - 1) * S / (100e9 * REACH)
    assert take(switch, "all_reduce", "mesh", n) == pytest.approx(two)
    assert take(switch, "all_reduce", "one_shot_mesh", n) == pytest.approx(one)


@pytest.mark.parametrize("n", [3, 8, 9, 64])
def test_tree_is_a_pipeline(switch: tuple[Level, ...], n: int) -> None:
    steps, moved = 2 * math.ceil(math.log2(n)) * ALPHA, 2 * S / (100e9 * REACH)
    assert take(switch, "all_reduce", "tree", n) == pytest.approx(LAUNCH + (math.sqrt(steps) + math.sqrt(moved)) ** 2)


def test_the_tree_of_two_sends_one_way_each(switch: tuple[Level, ...]) -> None:
    steps, moved = 2 * ALPHA, S / (100e9 * REACH)
    assert take(switch, "all_reduce", "tree", 2) == pytest.approx(LAUNCH + (math.sqrt(steps) + math.sqrt(moved)) ** 2)


def test_the_best_number_of_pieces_gives_the_pipelined_form(switch: tuple[Level, ...]) -> None:
    """(d + k)(a + b / k) over k, by search, against the closed minimum."""
    d, moved = 2 * math.ceil(math.log2(64)), 2 * S / (100e9 * REACH)
    pieces = np.arange(1, 20_000)
    best = ((d + pieces) * (ALPHA + moved / pieces)).min()
    assert take(switch, "all_reduce", "tree", 64) - LAUNCH == pytest.approx(best, rel=1e-3)


def test_broadcast_passes_the_ring_in_pieces(switch: tuple[Level, ...]) -> None:
    n = 8
    steps, moved = (n - 1) * ALPHA, S / (100e9 * REACH)
    assert take(switch, "broadcast", "ring", n) == pytest.approx(LAUNCH + (math.sqrt(steps) + math.sqrt(moved)) ** 2)


ADDS = {"in_network": 0.5, "in_network_latency": 25e-6, "in_network_pass": 10e-6, "in_network_sync": 0.25}


def test_reduction_in_the_switch_adds_each_buffer_once() -> None:
    lv = (level("rack", 64, 100e9, reduction_in_network=True, **ADDS),)
    moved = S / (100e9 * REACH * 0.5)
    start = LAUNCH + 15e-6 + 16 * 0.25 * HOP
    expected = start + (math.sqrt(10e-6) + math.sqrt(moved)) ** 2
    assert take(lv, "all_reduce", "nvls", 16) == pytest.approx(expected)
    found = collective("all_reduce", size=S, group=Group(ranks=16), levels=lv, algorithm="nvls")
    assert float(np.asarray(found.bytes_on_links["rack"])) == pytest.approx(S * (1 + 1 / 16))


def test_reduction_needs_a_switch_that_adds(switch: tuple[Level, ...]) -> None:
    with pytest.raises(UserError, match="unknown algorithm of all_reduce"):
        take(switch, "all_reduce", "nvls", 8)


def test_integers_are_not_added_in_the_switch() -> None:
    lv = (level("rack", 64, 100e9, reduction_in_network=True, **ADDS),)
    found = collective("all_reduce", size=1e9, group=Group(ranks=8), levels=lv, dtype="int8")
    assert "nvls" not in found.algorithms


def test_protocols_trade_latency_for_bandwidth() -> None:
    more = {"line_rate": 0.94, "line": 1.3e-6, "line_start": 7.4e-6, "bulk": 2.8e-6, "bulk_start": 1.8e-6}
    lv = (level("rack", 64, 100e9, low_latency=0.39, **more),)
    n, taken = 8, set()
    for size in 10.0 ** np.arange(3, 10, 0.25):
        moved, steps = 2 * (n - 1) / n * size / (100e9 * REACH), 2 * (n - 1)
        times = {
            "LL": steps * ALPHA + moved / 0.39,
            "LL128": 7.4e-6 + steps * (ALPHA + 1.3e-6) + moved / 0.94,
            "Simple": 1.8e-6 + steps * (ALPHA + 2.8e-6) + moved,
        }
        taken.add(min(times, key=lambda name: times[name]))
        assert take(lv, "all_reduce", "ring", n, size) == pytest.approx(LAUNCH + min(times.values()))
    assert taken == {"LL", "LL128", "Simple"}


def test_trees_have_the_protocols_too() -> None:
    more = {"line_rate": 0.94, "line_start": 7.4e-6, "bulk_start": 22e-6}
    lv = (level("rack", 64, 100e9, low_latency=0.39, **more),)
    steps = 2 * math.ceil(math.log2(16)) * ALPHA
    for size in 10.0 ** np.arange(3, 10, 0.5):
        moved = 2 * size / (100e9 * REACH)
        times = [
            start + (math.sqrt(steps) + math.sqrt(moved / rate)) ** 2
            for start, rate in ((0.0, 0.39), (7.4e-6, 0.94), (22e-6, 1.0))
        ]
        assert take(lv, "all_reduce", "tree", 16, size) == pytest.approx(LAUNCH + min(times))


def test_inside_a_server_of_channels_a_tree_is_a_chain() -> None:
    lv = (level("rack", 64, 100e9, channels=32.0),)
    steps, moved = 2 * 15 * ALPHA, 2 * S / (100e9 * REACH)
    assert take(lv, "all_reduce", "tree", 16) == pytest.approx(LAUNCH + (math.sqrt(steps) + math.sqrt(moved)) ** 2)


def test_two_ranks_reach_less_than_eight_because_of_the_local_copy() -> None:
    lv = (level("rack", 64, 100e9, last_step=0.5),)
    size = 100e9
    bus = {n: 2 * (n - 1) / n * size / take(lv, "all_reduce", "ring", n, size) for n in (2, 8)}
    assert bus[2] == pytest.approx(100e9 * REACH * 2 / 2.5, rel=1e-3)
    # and that step takes a hop as well
    assert take(lv, "all_gather", "ring", 4, 1.0) == pytest.approx(LAUNCH + 4 * ALPHA, rel=1e-3)
    assert bus[8] == pytest.approx(100e9 * REACH * 14 / 14.5, rel=1e-3)


def test_ring_over_two_levels_shares_the_adapters_of_a_node(two_levels: tuple[Level, ...]) -> None:
    """32 ranks, 8 per node: 3 of 31 steps cross the network; eight adapters carry the cut of each ring."""
    n, nodes = 32, 4
    steps = 2 * ((n - nodes) * ALPHA + (nodes - 1) * ALPHA)
    volume = 2 * (n - 1) / n * S
    inside, across = volume * (n - nodes) / n / (400e9 * REACH), volume * nodes / n / (50e9 * REACH)
    assert take(two_levels, "all_reduce", "ring", n) == pytest.approx(LAUNCH + steps + max(inside, across))


def test_hierarchical_reduces_inwards_first(two_levels: tuple[Level, ...]) -> None:
    found = collective("all_reduce", size=1e9, group=Group(ranks=32), levels=two_levels, algorithm="hierarchical")
    inside = 2 * 2 * ALPHA / 2 + 2 * 7 / 8 * 1e9 / (400e9 * REACH)
    across = 2 * ALPHA + 2 * 3 / 4 * (1e9 / 8) / (50e9 * REACH)
    assert float(found.time.value) == pytest.approx(LAUNCH + inside + across, rel=1e-6)


def test_a_strided_group_has_one_adapter_per_rank(two_levels: tuple[Level, ...]) -> None:
    found = collective("all_reduce", size=S, group=Group(ranks=4, stride=8), levels=two_levels, algorithm="ring")
    assert float(found.time.value) == pytest.approx(LAUNCH + 6 * ALPHA + 1.5 * S / (50e9 * REACH))


def test_a_ring_on_a_torus_uses_the_links_that_the_group_closes(torus: tuple[Level, ...]) -> None:
    for n, links in ((16, 400e9), (4, 200e9), (2, 100e9)):
        expected = LAUNCH + 2 * (n - 1) * ALPHA + 2 * (n - 1) / n * S / (links * REACH)
        assert take(torus, "all_reduce", "ring", n) == pytest.approx(expected)


def test_kangaring_halves_the_steps_where_ranks_share_a_chip() -> None:
    lv = (level("chip", 1, 1e12, topology="chip"), level("server", 16, 400e9, topology="torus", dims=(4, 4)))
    ring = take(lv, "all_gather", "ring", 64, 1.0, ranks_per_chip=4.0)
    half = take(lv, "all_gather", "kangaring", 64, 1.0, ranks_per_chip=4.0)
    assert half - LAUNCH == pytest.approx((ring - LAUNCH) / 2, rel=1e-4)
    assert take(lv, "all_gather", "kangaring", 16) == take(lv, "all_gather", "ring", 16)


def test_many_peers_cost_messages() -> None:
    plain, counted = (level("net", 10**6, 1e10),), (level("net", 10**6, 1e10, message=5e-7),)
    more = take(counted, "all_reduce", "mesh", 100, 1e3) - take(plain, "all_reduce", "mesh", 100, 1e3)
    assert more == pytest.approx(2 * 99 * 5e-7)
    assert take(counted, "all_reduce", "rhd", 4096, 1e5) < take(counted, "all_reduce", "mesh", 4096, 1e5)
    assert take(plain, "all_reduce", "rhd", 4096, 1e5) > take(plain, "all_reduce", "mesh", 4096, 1e5)
    found = collective("all_to_all", size=1e3, group=Group(ranks=100), levels=counted, algorithm="direct").time
    free = collective("all_to_all", size=1e3, group=Group(ranks=100), levels=plain, algorithm="direct").time
    assert float(found.value) - float(free.value) == pytest.approx(99 * 5e-7)


def test_the_ranges_of_aws_follow_from_cost() -> None:
    """64 ranks on 16 Trn2 chips: mesh below 1 MB, rhd up to 56 MB, kangaring above (AWS, measured); here by cost."""
    lv = (
        level("chip", 1, 1.45e12, topology="chip", hop=1e-6, launch=2e-6),
        level("server", 16, 512e9, topology="torus", dims=(4, 4), hop=0.5e-6, launch=5e-6, efficiency=0.75),
    )
    names = ("one_shot_mesh", "mesh", "rhd", "kangaring")

    def best(size: float) -> str:
        times = {name: take(lv, "all_reduce", name, 64, size, ranks_per_chip=4.0) for name in names}
        return min(times, key=lambda name: times[name])

    sizes = 10.0 ** np.arange(3, 10, 0.1)
    order = [best(size) for size in sizes]
    assert list(dict.fromkeys(order)) == list(names)
    to_rhd, to_ring = sizes[order.index("rhd")], sizes[order.index("kangaring")]
    assert 0.2e6 < to_rhd < 5e6
    assert 10e6 < to_ring < 100e6


def test_ring_beats_rhd_beats_mesh_on_a_torus_at_large_sizes(torus: tuple[Level, ...]) -> None:
    times = [take(torus, "all_reduce", name, 16, 1e10) for name in ("ring", "rhd", "mesh")]
    assert times == sorted(times)
