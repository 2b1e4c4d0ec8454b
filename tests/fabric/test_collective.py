"""Laws that hold for every collective, algorithm and group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError, replace_values
from trainshed.core.explain import tree
from trainshed.fabric import ALGORITHMS, KINDS, Group, collective
from trainshed.hardware.schema import Level

from .conftest import PLANNED, level

CHIP = level("chip", 1, 1e12, topology="chip", key="core")
FABRICS: dict[str, tuple[Level, ...]] = {
    "switch": (level("rack", 72, 9e11, key="a"), level("network", 10**6, 5e10, topology="leaf-spine", key="b")),
    "torus": (CHIP, level("server", 16, 4e11, topology="torus", dims=(4, 4), key="a"),
              level("ultraserver", 64, 1.28e11, topology="ring", dims=(4,), key="a"),
              level("network", 10**6, 2.5e10, topology="leaf-spine", key="b", layer=1e-6,
                    radix=128.0)),
    "sleds": (CHIP, level("sled", 4, 2.56e11, key="a"), level("rack", 72, 3.2e11, key="a"),
              level("ultraserver", 144, 1.28e11, topology="ring", dims=(2,), key="a"),
              level("network", 10**6, 2.5e10, topology="leaf-spine", key="b")),
    "adding": (level("rack", 72, 9e11, key="a", reduction_in_network=True, in_network=0.6, in_network_latency=25e-6,
                     in_network_pass=1e-5, in_network_sync=0.3, low_latency=0.4, line_rate=0.94, line_start=7e-6,
                     bulk_start=2.2e-5, last_step=0.4, pair=1e-8, pair_most=128.0, planned_reach=0.8, **PLANNED),
               level("network", 10**6, 5e10, topology="leaf-spine", key="b", low_latency=0.5, line_rate=0.94,
                     bulk=1.1e-5)),
    "mesh": (level("node", 8, 4.48e11, topology="mesh", key="a"),
             level("network", 10**6, 5e10, topology="leaf-spine", key="b")),
}  # fmt: skip
ways = [(kind, name) for kind in KINDS for name in ("auto", *ALGORITHMS[kind])]
fabrics, kinds = st.sampled_from(sorted(FABRICS)), st.sampled_from(ways)
sizes = st.floats(1.0, 1e11)
groups = st.tuples(st.integers(1, 4096), st.sampled_from([1, 2, 4, 8, 16, 64, 72, 144]))


def run(fabric: str, way: tuple[str, str], size: object, ranks: object, stride: object, **more: object):  # type: ignore[no-untyped-def]
    kind, algorithm = way
    if algorithm == "nvls" and fabric != "adding":
        algorithm = "auto"
    return collective(
        kind, size=size, group=Group(ranks=ranks, stride=stride), levels=FABRICS[fabric], algorithm=algorithm,
        copies=8.0 if kind.startswith("moe") else 1.0, **more,
    )  # type: ignore[arg-type]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(fabric=fabrics, way=kinds, size=sizes, group=groups, factor=st.floats(1.0, 100.0))
def test_time_grows_with_size_and_never_beats_the_bound(
    fabric: str, way: tuple[str, str], size: float, group: tuple[int, int], factor: float
) -> None:
    small, large = run(fabric, way, size, *group), run(fabric, way, size * factor, *group)
    assert float(small.time.value) <= float(large.time.value) * (1 + 1e-12)
    assert float(small.lower_bound.value) <= float(small.time.value) * (1 + 1e-9)


@settings(max_examples=200, deadline=None)
@given(fabric=fabrics, way=kinds, size=sizes, group=groups)
def test_what_leaves_a_domain_is_at_least_what_must(
    fabric: str, way: tuple[str, str], size: float, group: tuple[int, int]
) -> None:
    """Conservation: an all_reduce, all_gather or reduce_scatter sends at least (n − 1) / n of its buffer per rank."""
    found = run(fabric, way, size, *group)
    kind, n = way[0], group[0]
    sent = sum(float(np.asarray(v)) for v in found.bytes_on_links.values())
    least = {"all_reduce": 1.0 if fabric == "adding" else 2 * (n - 1) / n, "all_gather": (n - 1) / n,
             "reduce_scatter": (n - 1) / n, "all_to_all": (n - 1) / n, "permute": 1.0}  # fmt: skip
    if n > 1 and kind in least and fabric not in ("torus", "sleds"):
        assert sent >= least[kind] * size * (1 - 1e-9) or (kind == "all_reduce" and n == 2)
    assert (sent == 0) == (n == 1)


@pytest.mark.parametrize("fabric", sorted(FABRICS))
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_equals_its_rows(fabric: str, kind: str) -> None:
    rng = np.random.default_rng(3)
    ranks = np.array([1, 2, 3, 8, 16, 64, 100, 144, 1000, 4096])
    stride = np.array([1, 1, 4, 1, 8, 1, 1, 1, 2, 144])
    size = 10.0 ** rng.uniform(1, 10, size=10)
    concurrent = rng.integers(1, 4, size=10).astype(float)
    table = run(fabric, (kind, "auto"), size, ranks, stride, concurrent=concurrent, ranks_per_chip=1.0)
    for i in range(10):
        one = run(fabric, (kind, "auto"), size[i], int(ranks[i]), int(stride[i]), concurrent=concurrent[i])
        assert np.broadcast_to(table.time.value, 10)[i] == pytest.approx(float(one.time.value), rel=1e-12)
        assert str(np.broadcast_to(table.chosen, 10)[i]) == str(one.chosen)
        for name, sent in table.bytes_on_links.items():
            assert np.broadcast_to(sent, 10)[i] == pytest.approx(float(np.asarray(one.bytes_on_links.get(name, 0.0))))


def test_a_group_of_one_is_free() -> None:
    for kind in KINDS:
        alone = collective(kind, size=1e9, group=Group(ranks=1), levels=FABRICS["sleds"])
        assert (float(alone.time.value), float(alone.lower_bound.value), alone.bytes_on_links) == (0.0, 0.0, {})
        beside = collective(kind, size=1e9, group=Group(ranks=np.array([1, 8])), levels=FABRICS["sleds"])
        assert np.asarray(beside.time.value)[0] == 0
        assert beside.chosen.tolist()[0] == "none"


def test_auto_takes_the_cheapest() -> None:
    found = collective("all_reduce", size=1e7, group=Group(ranks=64), levels=FABRICS["torus"])
    values = {name: float(c.value) for name, c in found.algorithms.items()}
    assert float(found.time.value) == min(values.values())
    assert values[str(found.chosen)] == min(values.values())


def test_the_library_of_the_innermost_level_limits_the_menu() -> None:
    few = (level("rack", 72, 9e11, algorithms=("ring", "tree")), FABRICS["switch"][1])
    found = collective("all_reduce", size=1e7, group=Group(ranks=64), levels=few)
    assert set(found.algorithms) == {"ring", "tree"}
    assert set(collective("all_to_all", size=1e7, group=Group(ranks=64), levels=few).algorithms) == {"direct"}
    forced = collective("all_reduce", size=1e7, group=Group(ranks=64), levels=few, algorithm="rhd")
    assert set(forced.algorithms) == {"rhd"}


def test_concurrent_collectives_share_the_bytes_not_the_steps() -> None:
    one, three = (
        float(collective("all_gather", size=1e9, group=Group(ranks=8), levels=FABRICS["switch"], algorithm="ring",
                         concurrent=c).time.value) for c in (1.0, 3.0)
    )  # fmt: skip
    moved = 7 / 8 * 1e9 / (9e11 * 0.8)
    assert three - one == pytest.approx(2 * moved)


def test_ranks_of_a_chip_share_its_links() -> None:
    alone = collective("all_gather", size=4e9, group=Group(ranks=16, stride=4), levels=FABRICS["torus"],
                       ranks_per_chip=4.0, algorithm="ring")  # fmt: skip
    whole = collective("all_gather", size=1e9, group=Group(ranks=16), levels=FABRICS["torus"], algorithm="ring")
    assert float(alone.time.value) > 3.9 * 4 * 15 / 16 * 1e9 / (4e11 * 0.8)
    assert float(whole.time.value) < float(alone.time.value) / 3.9


def test_a_million_chips_cost_no_more_to_price() -> None:
    found = collective("all_reduce", size=2**30, group=Group(ranks=999_936), levels=FABRICS["torus"])
    assert str(found.chosen) == "hierarchical"
    # three levels: reduce_scatter and all_gather inwards, a 64th of the buffer over the network
    assert float(np.asarray(found.bytes_on_links["network"])) == pytest.approx(2 * 2**30 / 64, rel=1e-3)
    assert sum(1 for _ in found.time.at(()).walk()) < 40


def test_constants_on_an_axis_broadcast_against_plans() -> None:
    name = "system/x.rack.bandwidth"
    rates = np.array([[4.5e11], [9e11]])
    levels = tuple(replace_values(lv, {name: rates}) for lv in FABRICS["switch"])
    group = Group(ranks=np.array([1, 8, 144]))
    found = collective("all_reduce", size=np.array([1e9, 1e9, 1e9]), group=group, levels=levels)
    assert np.shape(found.time.value) == (2, 3)
    once = collective("all_reduce", size=1e9, group=group, levels=FABRICS["switch"])
    assert np.asarray(found.time.value)[1] == pytest.approx(np.asarray(once.time.value))


def test_the_tree_holds_every_constant_and_adds_up() -> None:
    found = collective("all_reduce", size=1e9, group=Group(ranks=1024), levels=FABRICS["adding"])
    root = tree(found.time.at(()))
    names = {c.name for c in found.time.used_constants().values()}
    assert {"interconnect/a.launch", "interconnect/a.in_network", "system/x.network.bandwidth"} <= names

    def check(node: dict) -> None:  # type: ignore[type-arg]
        if node["how"] == "sum" and node["children"]:
            assert sum(c["value"] for c in node["children"]) == pytest.approx(node["value"], rel=1e-9)
        for child in node["children"]:
            check(child)

    check(root)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "all_redcue"}, "unknown collective: 'all_redcue'; expected one of all_reduce"),
        ({"algorithm": "rign"}, "unknown algorithm of all_reduce: 'rign'; expected one of ring"),
        ({"dtype": "bf61"}, "unknown dtype"),
        ({"size": -1.0}, "negative size"),
    ],
)
def test_mistakes_are_one_sentence(change: dict[str, object], said: str) -> None:
    options = {"kind": "all_reduce", "size": 1.0, "group": Group(ranks=2), "levels": FABRICS["switch"]} | change
    kind = options.pop("kind")
    with pytest.raises(UserError, match=said):
        collective(kind, **options)  # type: ignore[arg-type]
