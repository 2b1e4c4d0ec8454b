"""Broken networks: rerouted where there is a way, one sentence where there is none, and what is left."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.network.build import network, sent
from trainshed.fabric.network.faults import cut_off, fail, left, reached
from trainshed.fabric.network.graph import Network
from trainshed.fabric.network.routing import routes
from trainshed.hardware import Catalogue


@pytest.fixture(scope="module")
def gen2() -> Network:
    return network(Catalogue().system("trn3-gen2"), 144)


@pytest.fixture(scope="module")
def torus() -> Network:
    return network(Catalogue().system("trn2"), 16)


def _links(net: Network, source: int, target: int) -> list[str]:
    found = routes(net, np.array([source]), np.array([target]), "shortest")
    return [net.link_name(int(k)) for k in found.link]


def test_a_direct_link_down_goes_over_another_twin(gen2: Network) -> None:
    broken = fail(gen2, ["chip 0 - chip 72"])
    assert broken.links == gen2.links - 2
    way = _links(broken, 0, 72)
    assert way[0] == "chip 0 -> sled 0"  # over a chip of its sled, not of the rack, and never over EFA
    assert len(way) == 5
    found = routes(broken, np.array([0]), np.array([72]))
    twins = {broken.link_name(int(k)) for k in found.link if broken.levels[broken.level[k]] == "ultraserver"}
    assert twins == {f"chip {i} -> chip {72 + i}" for i in (1, 2, 3)}
    assert _links(broken, 72, 0)[0] == "chip 72 -> sled 18"


def test_one_way_only(gen2: Network) -> None:
    broken = fail(gen2, ["chip 0 -> chip 72"])
    assert len(_links(broken, 0, 72)) == 5
    assert _links(broken, 72, 0) == ["chip 72 -> chip 0"]
    assert left(gen2, broken)["ultraserver"].worst_part == 0


def test_a_sled_switch_down_leaves_the_rack(gen2: Network) -> None:
    broken = fail(gen2, ["sled 0"])
    assert _links(broken, 0, 1) == ["chip 0 -> rack 0 plane 0", "rack 0 plane 0 -> chip 1"]
    rest = left(gen2, broken)
    assert rest["sled"].part == pytest.approx(35 / 36)
    assert (rest["sled"].worst, rest["sled"].worst_part) == ("chip 0", 0)
    assert rest["rack"].part == 1


@pytest.mark.parametrize(("what", "part"), [("rack 0 plane 1", 0.9), ("plane 1", 0.8)])
def test_a_plane_down_leaves_four_fifths(gen2: Network, what: str, part: float) -> None:
    broken = fail(gen2, [what])
    rest = left(gen2, broken)["rack"]
    assert rest.part == pytest.approx(part)
    assert rest.worst_part == pytest.approx(0.8)
    assert rest.worst_bandwidth == pytest.approx(256e9)
    assert rest.bandwidth == pytest.approx(part * 144 * 320e9)
    found = routes(broken, np.array([0]), np.array([4]))
    assert found.share == pytest.approx(0.25)


def test_a_chip_down_keeps_the_others_numbers(gen2: Network) -> None:
    broken = fail(gen2, ["chip 3"])
    assert broken.nodes == gen2.nodes
    assert not ((broken.source == 3) | (broken.target == 3)).any()
    rest = left(gen2, broken)
    assert rest["rack"].part == pytest.approx(143 / 144)
    assert rest["rack"].worst_part == 1  # a dead chip is no working chip
    assert (rest["ultraserver"].worst, rest["ultraserver"].worst_part) == ("chip 75", 0)
    with pytest.raises(UserError, match="no way: 'chip 0 to chip 3'"):
        routes(broken, np.array([0]), np.array([3]))


def test_a_torus_goes_around(torus: Network) -> None:
    broken = fail(torus, ["chip 0 - chip 1"])
    assert len(_links(torus, 0, 1)) == 1
    assert len(_links(broken, 0, 1)) == 3
    rest = left(torus, broken)["server"]
    assert rest.worst_part == pytest.approx(0.75)
    assert rest.part == pytest.approx(62 / 64)


def test_efa_down_goes_over_a_neighbours_adapter() -> None:
    net = network(Catalogue().system("trn2-ultra"), 512)
    broken = fail(net, ["adapter 5"])
    way = _links(broken, 5, 300)
    assert way[1].endswith(" -> adapter 6")
    assert left(net, broken)["network"].worst == "chip 5"
    assert left(net, broken)["network"].worst_bandwidth == 0


def test_a_spine_down_is_felt_by_all_chips_behind_it() -> None:
    net = network(Catalogue().system("p5"), 512)
    broken = fail(net, ["spine 0"])
    spines = int((net.kind == net.kinds.index("spine")).sum())
    assert left(net, broken)["network"].part == pytest.approx(1 - 1 / spines)
    assert left(net, broken)["network"].worst_part == pytest.approx(1 - 1 / spines)
    assert left(net, broken)["server"].part == 1


def test_a_second_plane_of_a_network_carries_on() -> None:
    system = Catalogue().system("p5")
    planes = dataclasses.replace(system.levels[-1].bandwidth, name="planes", value=2.0, unit="count")
    outer = dataclasses.replace(system.levels[-1], planes=planes)
    net = network(dataclasses.replace(system, levels=(*system.levels[:-1], outer)), 128)
    assert sent(net)[-1] == pytest.approx(50e9)
    assert "plane 1 leaf 1" in net.names
    whole = routes(net, np.array([0]), np.array([127]))
    broken = fail(net, ["plane 0 leaf 0"])
    half = routes(broken, np.array([0]), np.array([127]))
    assert len(half.link) < len(whole.link)
    assert not any("plane 0" in broken.link_name(int(k)) for k in half.link)
    rest = left(net, broken)["network"]
    assert (rest.part, rest.worst_part) == (pytest.approx(0.75), pytest.approx(0.5))
    assert left(net, fail(net, ["plane 0"]))["network"].part == pytest.approx(0.5)


def test_whom_it_cuts_off() -> None:
    net = network(Catalogue().system("p5"), 128)
    with pytest.raises(UserError, match="p5 without leaf 0: chips that cannot reach each other: 'chip 0 to chip 8'"):
        fail(net, ["leaf 0"])
    parted = fail(net, ["leaf 0"], parted=True)
    assert cut_off(parted, np.arange(8)) is None
    assert cut_off(parted, np.array([0, 9])) == (0, 9)
    with pytest.raises(UserError, match="'chip 1 to chip 0'"):
        fail(net, ["chip 1 -> server 0", "chip 1 -> adapter 1"])  # it still hears the others


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("chip 500", "unknown node: 'chip 500'; expected one of chip 50"),
        ("plane 9", "unknown node: 'plane 9'"),
        ("chip 0 - chip 1", "no such link: 'chip 0 - chip 1'; expected a link of chip 0: chip 0, chip 72, sled 0"),
        ("chip 0 -> nobody", "unknown node: 'nobody'"),
    ],
)
def test_mistakes(gen2: Network, what: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fail(gen2, [what])


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 79), min_size=1, max_size=30))
def test_what_is_reached_has_a_route_and_nothing_else(gone: set[int]) -> None:
    net = network(Catalogue().system("trn2"), 16)
    gone = {k for k in gone if net.source[k] != net.target[k]}
    if not gone:
        return
    broken = fail(net, [net.link_name(k) for k in gone], parted=True)
    assert broken.links == net.links - len(gone)
    for source in (0, 5):
        seen = reached(broken, source)
        for target in range(16):
            if seen[target]:
                found = routes(broken, np.array([source]), np.array([target]))
                assert len(found.link) >= (source != target)
            else:
                with pytest.raises(UserError, match="no way"):
                    routes(broken, np.array([source]), np.array([target]))
    for rest in left(net, broken).values():
        assert 0 <= rest.worst_part <= rest.part + 1e-12 <= 1 + 1e-12
