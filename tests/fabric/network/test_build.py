"""Networks against the published tables: what a chip sends per level, links of an UltraServer, bisection."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.network.build import network, sent
from trainshed.fabric.network.graph import Network
from trainshed.hardware import Catalogue, System

GB = 1e9


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def _count(net: Network, kind: str) -> int:
    return int((net.kind == net.kinds.index(kind)).sum())


def _level(net: Network, name: str) -> np.ndarray:
    return net.level == net.levels.index(name)


def _across(net: Network, half: np.ndarray, levels: list[str]) -> float:
    """B/s one way over links from the nodes of ``half`` to the others."""
    chosen = np.isin(net.level, [net.levels.index(name) for name in levels])
    return float(net.bandwidth[chosen & half[net.source] & ~half[net.target]].sum())


def test_each_chip_of_every_system_sends_what_its_levels_say(catalogue: Catalogue) -> None:
    for name in catalogue.systems():
        system = catalogue.system(name)
        for chips in {1, system.ultraserver_chips, min(2 * system.ultraserver_chips + 1, system.max_chips)}:
            net = network(system, chips)
            assert net.chips >= chips
            by_name = {level.name: level for level in system.levels}
            for row, level in zip(sent(net), net.levels, strict=True):
                assert row == pytest.approx(by_name[level].bandwidth.value), (name, level)


def test_links_go_both_ways_and_are_symmetric(catalogue: Catalogue) -> None:
    for name in ("trn1", "trn2-ultra", "trn3-gen1", "trn3-gen2", "trn4-nvl", "vtrain-v100", "mi300x-8", "p5"):
        system = catalogue.system(name)
        net = network(system, min(2 * system.ultraserver_chips, system.max_chips))
        there = sorted(zip(net.source, net.target, net.level, net.bandwidth, net.latency, strict=True))
        back = sorted(zip(net.target, net.source, net.level, net.bandwidth, net.latency, strict=True))
        assert there == back
        assert len(set(net.names)) == net.nodes


def test_trn1_is_a_torus_of_four_by_four(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn1"), 16)
    links = _level(net, "server")
    assert (net.chips, net.nodes, links.sum()) == (16, 16, 64)
    assert (net.bandwidth[links] == 48 * GB).all()  # trn1-arch: 384 GB/s both ways over four neighbours
    x, y = net.coordinates["x"], net.coordinates["y"]
    dx, dy = np.abs(x[net.source] - x[net.target])[links], np.abs(y[net.source] - y[net.target])[links]
    assert set(zip(dx.tolist(), dy.tolist(), strict=True)) == {(1, 0), (3, 0), (0, 1), (0, 3)}


def test_trn2_ultraserver_joins_the_same_places_of_neighbouring_servers(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn2-ultra"), 64)
    inside, along = _level(net, "server"), _level(net, "ultraserver")
    assert (inside.sum(), along.sum()) == (4 * 64, 2 * 64)
    assert (net.bandwidth[inside] == 128 * GB).all()
    assert (net.bandwidth[along] == 64 * GB).all()
    assert ((net.source - net.target)[along] % 16 == 0).all()
    z = net.coordinates["z"]
    assert set(((z[net.target] - z[net.source])[along] % 4).tolist()) == {1, 3}
    # halves of two servers: two of the four edges of each of 16 rings are cut
    assert _across(net, z[: net.chips] < 2, ["ultraserver"]) == 2 * 16 * 64 * GB


def test_trn3_gen2_has_sled_switches_rack_planes_and_twins(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn3-gen2"), 100)
    assert net.chips == 144  # a whole UltraServer: messages pass by the other chips
    assert (_count(net, "sled switch"), _count(net, "rack switch")) == (36, 10)
    rack, twins = _level(net, "rack"), _level(net, "ultraserver")
    assert rack.sum() == 2 * 5 * 144
    assert (net.bandwidth[rack] == 64 * GB).all()  # one PCIe 6 x8 each
    assert twins.sum() == 144
    assert (np.abs(net.source - net.target)[twins] == 72).all()
    assert _across(net, np.r_[np.repeat([True, False], 72), np.zeros(46, bool)], ["ultraserver"]) == 72 * 128 * GB
    total = sent(net)[1:].sum(axis=0)
    assert (total == 704 * GB).all()  # 256 + 320 + 128: the documented paths of a chip
    assert np.array_equal(net.coordinates["sled"], np.arange(144) // 4)
    assert np.array_equal(net.coordinates["rack"], np.arange(144) // 72)


def test_trn3_gen1_has_pairs_racks_of_32_and_twins(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn3-gen1"), 64)
    assert (net.chips, _count(net, "rack switch")) == (64, 10)
    pair = _level(net, "sled")
    assert (pair.sum(), set(np.abs(net.source - net.target)[pair].tolist())) == (64, {1})
    assert (net.bandwidth[pair] == 256 * GB).all()


def test_the_fusion_rack_mixes_pools_behind_one_switch(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn4-nvl"), 72)
    assert (_count(net, "rack switch"), _level(net, "rack").sum()) == (1, 144)
    assert net.coordinates["pool"].tolist() == [0] * 36 + [1] * 36  # prefill on GPUs, decode on Trainium


def test_leaves_and_pods_of_a_network(catalogue: Catalogue) -> None:
    two, three = (network(catalogue.system("p5"), chips) for chips in (8_192, 8_200))
    assert np.array_equal(two.coordinates["leaf"], np.arange(8_192) // 64)
    assert "pod" not in two.coordinates
    assert np.bincount(three.coordinates["pod"]).tolist() == [4096, 4096, 8]


def test_the_hybrid_cube_mesh_has_six_links_of_each_gpu(catalogue: Catalogue) -> None:
    net = network(catalogue.system("vtrain-v100"), 8)
    assert net.links == 32  # 16 pairs of GPUs are joined, half of them twice as fast
    assert sorted(set(net.bandwidth.tolist())) == [25 * GB, 50 * GB]
    joined = {(a, b) for a, b in zip(net.source.tolist(), net.target.tolist(), strict=True)}
    assert (0, 4) in joined
    assert (0, 5) not in joined


def test_a_mesh_joins_all_pairs(catalogue: Catalogue) -> None:
    net = network(catalogue.system("mi300x-8"), 8)
    assert net.links == 8 * 7
    assert (net.bandwidth == 64 * GB).all()


@pytest.mark.parametrize(("chips", "layers"), [(64, 1), (128, 2), (8_192, 2), (8_200, 3), (20_000, 3), (600_000, 4)])
def test_a_leaf_spine_network_has_the_layers_and_the_bisection_of_its_size(
    catalogue: Catalogue, chips: int, layers: int
) -> None:
    net = network(catalogue.system("p5"), chips)
    words = ("leaf", "spine", "core", "layer 4")
    assert [word for word in words if word in net.kinds] == list(words[:layers])
    assert _count(net, "leaf") == math.ceil(net.chips / 64)  # 64 of 128 ports go down
    fabric = ~((net.source < net.chips) | (net.target < net.chips))
    # full bisection: from each layer as much goes up as comes from below, in whole leaves
    for low, high in zip(net.kinds[2:-1], net.kinds[3:], strict=False):
        if low not in words:
            continue
        up = (net.kind[net.source] == net.kinds.index(low)) & (net.kind[net.target] == net.kinds.index(high))
        rate = np.bincount(net.source[up], weights=net.bandwidth[up])
        assert rate[rate > 0] == pytest.approx(64 * 50 * GB)
    ports = np.zeros(net.nodes)
    np.add.at(ports, net.source[fabric], net.bandwidth[fabric] / (50 * GB))
    assert ports[net.chips :].max() <= 128 + 1e-9
    assert ports[net.kind == len(net.kinds) - 1].min() > 0


def test_latencies_of_a_way_are_the_levels(catalogue: Catalogue) -> None:
    system = catalogue.system("p5")
    net = network(system, 64)
    network_level = _level(net, "network")
    assert (net.latency[network_level] * 4 == system.levels[-1].latency.value).all()
    assert (net.latency[_level(net, "server")] * 2 == system.levels[0].latency.value).all()


def test_only_the_levels_that_the_chips_need(catalogue: Catalogue) -> None:
    system = catalogue.system("trn3-gen2")
    assert network(system, 4).levels == ("chip", "sled")
    assert network(system, 5).levels == ("chip", "sled", "rack")
    assert network(system, 144).levels == ("chip", "sled", "rack", "ultraserver")
    assert network(system, 145).levels == ("chip", "sled", "rack", "ultraserver", "network")
    assert network(system, 145).chips == 288
    assert network(system, 145).scale_out == ("network",)


@pytest.mark.parametrize("chips", [0, -1, 10**9])
def test_more_chips_than_there_are(catalogue: Catalogue, chips: int) -> None:
    with pytest.raises(UserError, match=r"trn3-gen2: chips of a network.*expected 1 to 1000000"):
        network(catalogue.system("trn3-gen2"), chips)


def test_a_level_that_does_not_divide_is_a_mistake_of_the_data(catalogue: Catalogue) -> None:
    system: System = catalogue.system("trn1")

    wrong = dataclasses.replace(system.levels[1], dims=(4, 5))
    with pytest.raises(ValueError, match="not 16 chips"):
        network(dataclasses.replace(system, levels=(system.levels[0], wrong, system.levels[2])), 16)
