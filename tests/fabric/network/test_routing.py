"""Routes against brute force on random graphs, tori in closed form, and the ways of the hardware."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.network.build import network
from trainshed.fabric.network.graph import Network
from trainshed.fabric.network.routing import POLICIES, Routes, latency, routes
from trainshed.hardware import Catalogue

US = 1e-6


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return Catalogue()


def graph(
    nodes: int, links: list[tuple[int, int]], levels: list[int] | None = None, chips: int | None = None
) -> Network:
    """A network of plain links; the latency of link k is k microseconds."""
    count = chips or nodes
    source, target = np.array(links, dtype=np.int64).reshape(-1, 2).T
    return Network(
        name="test", chips=count, kinds=("chip", "switch"), kind=(np.arange(nodes) >= count).astype(np.int64),
        names=tuple(f"chip {i}" if i < count else f"switch {i}" for i in range(nodes)),
        levels=("inner", "outer"), source=source, target=target,
        level=np.array(levels if levels else [0] * len(links), dtype=np.int64), bandwidth=np.full(len(links), 1e9),
        latency=np.arange(len(links)) * US,
    )  # fmt: skip


def one(net: Network, source: int, target: int, policy: str = "spray") -> dict[str, float]:
    """Links and shares of a pair."""
    found = routes(net, np.array([source]), np.array([target]), policy)
    return {net.link_name(int(k)): float(s) for k, s in zip(found.link, found.share, strict=True)}


def pairs(net: Network) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of different chips."""
    source, target = np.divmod(np.arange(net.chips**2), net.chips)
    return source[source != target], target[source != target]


def shortest_paths(net: Network, source: int, target: int, allowed: set[int]) -> list[list[int]]:
    """Brute force: all paths of fewest links among ``allowed``, then of the least sum of levels, as lists of links."""
    out: dict[int, list[int]] = defaultdict(list)
    for k in sorted(allowed):
        out[int(net.source[k])].append(k)
    front: list[tuple[int, list[int], set[int]]] = [(source, [], {source})]
    while front:
        done = [path for node, path, _ in front if node == target]
        if done:
            least = min(sum(int(net.level[k]) for k in path) for path in done)
            return [path for path in done if sum(int(net.level[k]) for k in path) == least]
        front = [
            (int(net.target[k]), [*path, k], seen | {int(net.target[k])})
            for node, path, seen in front
            for k in out[node]
            if int(net.target[k]) not in seen
        ]
    return []


@st.composite
def graphs(draw: st.DrawFn) -> Network:
    """Up to nine nodes, some of them switches, one-way links of two levels, parallel ones too."""
    nodes = draw(st.integers(2, 9))
    chips = draw(st.integers(1, nodes))
    end = st.integers(0, nodes - 1)
    links = draw(st.lists(st.tuples(end, end).filter(lambda ends: ends[0] != ends[1]), min_size=1, max_size=24))
    levels = draw(st.lists(st.integers(0, 1), min_size=len(links), max_size=len(links)))
    return graph(nodes, links, levels, chips)


def ways(net: Network, source: int, target: int) -> list[list[int]]:
    """All ways of a pair by the definition: the inner level if it connects them, else both."""
    inner = {k for k in range(net.links) if net.level[k] == 0}
    return shortest_paths(net, source, target, inner) or shortest_paths(net, source, target, set(range(net.links)))


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_spray_gives_equal_parts_to_all_shortest_ways(net: Network) -> None:
    ends = [(s, t) for s in range(net.nodes) for t in range(net.nodes) if s != t]
    expected = {pair: ways(net, *pair) for pair in ends}
    asked = [pair for pair in ends if expected[pair]]
    for source, target in [pair for pair in ends if not expected[pair]][:2]:
        with pytest.raises(UserError, match=f"no way: '{net.names[source]} to {net.names[target]}'"):
            routes(net, np.array([source]), np.array([target]))
    found = {policy: routes(net, *np.array(asked).T, policy) for policy in POLICIES}
    longest = latency(net, found["spray"])
    for k, pair in enumerate(asked):
        share: dict[int, float] = defaultdict(float)
        for path in expected[pair]:
            for link in path:
                share[link] += 1 / len(expected[pair])
        rows = slice(found["spray"].first[k], found["spray"].first[k + 1])
        spray = dict(zip(found["spray"].link[rows].tolist(), found["spray"].share[rows].tolist(), strict=True))
        assert spray == pytest.approx(dict(share))
        assert longest[k] == pytest.approx(max(sum(net.latency[link] for link in path) for path in expected[pair]))
        for policy in ("shortest", "ecmp", "source"):
            rows = slice(found[policy].first[k], found[policy].first[k + 1])
            assert found[policy].link[rows].tolist() in expected[pair]
            assert (found[policy].share[rows] == 1).all()


@settings(max_examples=25, deadline=None)
@given(graphs(), st.sampled_from(POLICIES))
def test_asking_again_or_together_changes_nothing(net: Network, policy: str) -> None:
    asked = [(s, t) for s in range(net.nodes) for t in range(net.nodes) if s != t and ways(net, s, t)]
    if not asked:
        return
    source, target = np.array(asked).T
    alone = [routes(_copy(net), source[k : k + 1], target[k : k + 1], policy) for k in range(len(asked))]
    together = routes(net, source, target, policy)
    again = routes(net, source[::-1], target[::-1], policy)
    for k, single in enumerate(alone):
        for whole, at in ((together, k), (again, len(asked) - 1 - k)):
            row = whole.take(np.array([at]))
            assert row.link.tolist() == single.link.tolist()
            assert row.share == pytest.approx(single.share)


def _copy(net: Network) -> Network:
    columns = {name: getattr(net, name) for name in Network.__dataclass_fields__}
    return Network(**columns)


def _flow(net: Network, found: Routes, source: np.ndarray, target: np.ndarray) -> Iterator[np.ndarray]:
    """Per pair, what leaves each node less what comes in."""
    for k in range(len(found)):
        rows = slice(found.first[k], found.first[k + 1])
        links, share = found.link[rows], found.share[rows]
        yield np.bincount(net.source[links], share, net.nodes) - np.bincount(net.target[links], share, net.nodes)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("name", "chips"), [("trn2-ultra", 64), ("trn3-gen1", 64), ("p5", 24), ("vtrain-v100", 8)])
def test_what_leaves_a_source_arrives_at_its_target(catalogue: Catalogue, name: str, chips: int, policy: str) -> None:
    net = network(catalogue.system(name), chips)
    source, target = pairs(net)
    some = np.arange(0, len(source), 7)
    source, target = source[some], target[some]
    found = routes(net, source, target, policy)
    for k, flow in enumerate(_flow(net, found, source, target)):
        expected = np.zeros(net.nodes)
        expected[source[k]], expected[target[k]] = 1, -1
        assert flow == pytest.approx(expected)


@pytest.mark.parametrize("name", ["trn1", "trn2", "trn2-ultra", "tpu-v5e-pod"])
def test_distances_on_tori_are_the_closed_form(catalogue: Catalogue, name: str) -> None:
    system = catalogue.system(name)
    net = network(system, system.ultraserver_chips)
    source, target = (column[:: 1 if net.chips <= 64 else 41] for column in pairs(net))
    expected = np.zeros(len(source), dtype=int)
    for axis in "xyz":
        if axis in net.coordinates:
            place = net.coordinates[axis]
            size = place.max() + 1
            apart = np.abs(place[source] - place[target])
            expected += np.minimum(apart, size - apart)
    for policy in ("spray", "shortest"):
        found = routes(net, source, target, policy)
        assert latency(net, found) == pytest.approx(expected * US)
    assert np.array_equal(np.diff(routes(net, source, target, "shortest").first), expected)


def test_dimension_order_is_x_then_y_then_z(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn2-ultra"), 64)
    found = routes(net, np.array([0]), np.array([1 + 4 + 16]), "source")
    assert net.target[found.link].tolist() == [1, 5, 21]
    source, target = pairs(net)
    found = routes(net, source, target, "source")
    moved = np.array([
        [net.coordinates[axis][a] != net.coordinates[axis][b] for axis in "xyz"].index(True)
        for a, b in zip(net.source[found.link], net.target[found.link], strict=True)
    ])  # fmt: skip
    within = found.pair[1:] == found.pair[:-1]
    assert (np.diff(moved)[within] >= 0).all()


def test_trn3_stays_as_far_inside_as_it_can(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn3-gen2"), 144)
    assert one(net, 0, 0) == {"chip 0 -> chip 0": 1}
    assert one(net, 0, 3) == {"chip 0 -> sled 0": 1, "sled 0 -> chip 3": 1}
    planes = one(net, 0, 4)
    assert planes == {
        f"{a} -> {b}": pytest.approx(0.2)
        for p in range(5)
        for a, b in (("chip 0", f"rack 0 plane {p}"), (f"rack 0 plane {p}", "chip 4"))
    }
    assert one(net, 0, 72) == {"chip 0 -> chip 72": 1}


def test_trn3_crosses_racks_over_either_twin(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn3-gen2"), 144)
    same_sled = one(net, 0, 73)
    assert same_sled["chip 0 -> chip 72"] == same_sled["chip 1 -> chip 73"] == pytest.approx(0.5)
    assert not any("plane" in link for link in same_sled)  # both sleds are switches nearer than the rack's
    other = one(net, 0, 76)
    assert other["chip 0 -> chip 72"] == other["chip 4 -> chip 76"] == pytest.approx(0.5)
    assert other["rack 1 plane 2 -> chip 76"] == pytest.approx(0.1)
    found = routes(net, *(np.array([k]) for k in (0, 76)))
    assert latency(net, found)[0] == pytest.approx(2.5 * US)  # the direct link's and the rack's


def test_nothing_goes_over_efa_where_neuronlink_reaches(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn3-gen2"), 288)
    source, target = pairs(net)
    found = routes(net, source, target, "ecmp")
    outside = net.level[found.link] == net.levels.index("network")
    over = np.bincount(found.pair, outside, len(source)) > 0
    ultraserver = net.coordinates["ultraserver"]
    assert np.array_equal(over, ultraserver[source] != ultraserver[target])
    # and what goes over EFA goes nowhere else: chips do not forward onto it
    assert np.array_equal(np.bincount(found.pair, ~outside, len(source)) > 0, ~over)


def test_ways_up_a_leaf_spine_network(catalogue: Catalogue) -> None:
    net = network(catalogue.system("p5"), 8_200)
    leaf, pod, far = 9, 70, 8_199
    found = routes(net, np.zeros(3, int), np.array([leaf, pod, far]))
    steps = [int(found.step[found.pair == k].max()) + 1 for k in range(3)]
    assert steps == [4, 6, 8]
    layer = float(catalogue.system("p5").levels[-1].fitted["layer"].value)
    assert latency(net, found) == pytest.approx([9 * US + layer * k for k in range(3)])
    for k in range(3):
        for step in range(steps[k]):
            assert found.share[(found.pair == k) & (found.step == step)].sum() == pytest.approx(1)


def test_ecmp_is_deterministic_and_spreads(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn3-gen2"), 144)
    source, target = pairs(net)
    chosen = routes(net, source, target, "ecmp")
    again = routes(network(catalogue.system("trn3-gen2"), 144), source, target, "ecmp")
    assert np.array_equal(chosen.link, again.link)
    plane = [net.names[i] for i in net.target[chosen.link]]
    used = np.array([sum(f"rack 0 plane {p}" == name for name in plane) for p in range(5)])
    assert used.min() > 0.9 * used.mean()


def test_listed_ways(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn1"), 16)
    given_ = {(0, 2): [0, 4, 5, 6, 2], (0, 1): [0, 1]}
    found = routes(net, np.array([0, 0]), np.array([2, 1]), "source", given_)
    assert net.target[found.link].tolist() == [4, 5, 6, 2, 1]
    called = routes(net, np.array([0]), np.array([1]), "source", lambda s, t: [s, t])
    assert net.target[called.link].tolist() == [1]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ([0, 5], "path of chip 0 to chip 5: 'chip 0 -> chip 5'; expected a link"),
        ([1, 5], "nodes from 0 to 5"),
        ([], "nodes from 0 to 5"),
        ([0, 99, 5], "nodes from 0 to 5"),
    ],
)
def test_wrong_ways(catalogue: Catalogue, path: list[int], message: str) -> None:
    net = network(catalogue.system("trn1"), 16)
    with pytest.raises(UserError, match=message):
        routes(net, np.array([0]), np.array([5]), "source", {(0, 5): path})


def test_mistakes(catalogue: Catalogue) -> None:
    net = network(catalogue.system("trn1"), 16)
    with pytest.raises(UserError, match="unknown routing: 'random'"):
        routes(net, np.array([0]), np.array([1]), "random")
    with pytest.raises(UserError, match="end of a route: 99; expected 0 to 15"):
        routes(net, np.array([0]), np.array([99]))
    with pytest.raises(UserError, match="paths given: 'spray'"):
        routes(net, np.array([0]), np.array([1]), "spray", {})
    assert len(routes(net, np.zeros(0, int), np.zeros(0, int))) == 0


def test_a_chip_without_a_link_to_itself_is_there_already() -> None:
    net = graph(2, [(0, 1), (1, 0)])
    found = routes(net, np.array([1, 0]), np.array([1, 1]))
    assert found.first.tolist() == [0, 0, 1]
    assert latency(net, found).tolist() == [0.0, 0.0]
