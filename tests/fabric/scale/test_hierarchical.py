"""One domain and a rail of each pattern: the same seconds as every send on the whole graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.flow.sends import Transport
from trainshed.fabric.scale import fans, hierarchical
from trainshed.hardware.catalogue import Catalogue
from trainshed.hardware.schema import System

Full = Callable[..., float]
HOPS = {"sled": 0.5e-6, "rack": 0.6e-6, "ultraserver": 0.7e-6, "network": 8e-6, "inner": 0.4e-6, "outer": 0.9e-6}
TRANSPORT = Transport(
    name="test", launch={"rack": 2e-6, "network": 5e-6, "outer": 3e-6}, hop=HOPS, message={"network": 0.5e-6},
    reach={"network": 0.85, "rack": 0.75, "inner": 0.8}, last_step={"network": 0.7, "rack": 0.4},
)  # fmt: skip
FREE = replace(TRANSPORT, message={})
MILLION = 6944 * 144


@pytest.mark.parametrize(("chips", "ways"), [(64, "mesh"), (144, "mesh"), (576, ["mesh", "mesh", "mesh", "rhd"])])
def test_ultraservers(chips: int, ways: Any, trn3: System, in_full: Full) -> None:
    found = hierarchical("all_reduce", 2**30, trn3, chips, TRANSPORT, ways)
    assert found.seconds == pytest.approx(in_full("all_reduce", 2**30, trn3, chips, TRANSPORT, ways), rel=1e-9)


@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter", "all_gather"])
@pytest.mark.parametrize(
    ("nodes", "way"), [(3, "ring"), (4, "bruck"), (7, "bruck"), (8, "rhd"), (9, "ring"), (5, "mesh")]
)
def test_layers(kind: str, nodes: int, way: str, layered: System, in_full: Full) -> None:
    """Up to five layers of switches, leaves that hold parts of two nodes."""
    transport = FREE if way == "mesh" else TRANSPORT
    for size in (1e5, 1e8):
        found = hierarchical(kind, size, layered, 6 * nodes, transport, ["mesh", way])
        wanted = in_full(kind, size, layered, 6 * nodes, transport, ["mesh", way])
        assert found.seconds == pytest.approx(wanted, rel=1e-3 if size > 1e6 else 1e-9)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    way=st.sampled_from(["ring", "rhd", "bruck", "mesh"]), nodes=st.sampled_from([2, 4, 8]), size=st.floats(1e3, 1e9)
)
def test_two_levels_of_switches(way: str, nodes: int, size: float, switched: System, in_full: Full) -> None:
    found = hierarchical("all_reduce", size, switched, 8 * nodes, TRANSPORT, ["rhd", way])
    assert found.seconds == pytest.approx(in_full("all_reduce", size, switched, 8 * nodes, TRANSPORT, ["rhd", way]))


def test_engines_that_limit(switched: System, in_full: Full) -> None:
    slow = replace(TRANSPORT, inject=6e10)
    found = hierarchical("all_reduce", 1e8, switched, 32, slow, ["mesh", "ring"])
    assert found.seconds == pytest.approx(in_full("all_reduce", 1e8, switched, 32, slow, ["mesh", "ring"]))
    assert found.seconds > hierarchical("all_reduce", 1e8, switched, 32, TRANSPORT, ["mesh", "ring"]).seconds


def test_a_million_chips(trn3: System) -> None:
    found = hierarchical("all_reduce", 2**30, trn3, MILLION, TRANSPORT, ["mesh", "mesh", "mesh", "bruck"])
    assert found.chips == 999_936
    assert found.fans == (4, 18, 2, 6944)
    # bytes over what a chip's adapter reaches, and 2 · 13 steps of the software and the lowest and highest latency
    wire = 2 * (1 - 1 / 6944) * 2**30 / 144 / (25e9 * 0.85)
    stages = list(found.stages.values())
    steps = stages[1] - stages[0] - wire
    assert 26 * (6.5e-6 + 8.5e-6) < steps < 26 * (6.5e-6 + 3 * 1.2e-6 + 8.5e-6) + 1e-9
    assert stages[2] == found.seconds


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.floats(1e3, 1e9), more=st.floats(1.01, 4.0))
def test_more_bytes_never_take_less(size: float, more: float, layered: System) -> None:
    one, other = (hierarchical("all_reduce", s, layered, 42, TRANSPORT, ["mesh", "bruck"]) for s in (size, size * more))
    assert one.seconds <= other.seconds


def test_fans(trn3: System) -> None:
    assert [(level.name, fan) for level, fan in fans(trn3, 288)] == [
        ("sled", 4), ("rack", 18), ("ultraserver", 2), ("network", 2)
    ]  # fmt: skip
    assert [fan for _, fan in fans(trn3, 64)] == [4, 16]
    assert fans(trn3, 1) == ()
    assert hierarchical("all_reduce", 1e6, trn3, 1, TRANSPORT).seconds == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chips": 150}, "fill no whole domains"),
        ({"kind": "all_to_all"}, "all_to_all"),
        ({"size": 0.0}, "size of a collective"),
        ({"ways": ["mesh", "ring"]}, "one algorithm for each of 4 levels"),
        ({"ways": ["mesh", "mesh", "mesh", "kangaring"]}, "kangaring"),
        ({"ways": "mesh"}, "price per message"),
        ({"chips": 432, "ways": ["mesh", "mesh", "mesh", "rhd"]}, "power of two"),
    ],
)
def test_what_is_not_alike_is_refused(change: dict[str, Any], message: str, trn3: System) -> None:
    asked: dict[str, Any] = {"kind": "all_reduce", "size": 1e6, "chips": 288, "ways": ["mesh", "mesh", "mesh", "ring"]}
    with pytest.raises(UserError, match=message):
        hierarchical(system=trn3, transport=TRANSPORT, **{**asked, **change})


def test_a_torus_is_simulated_whole(in_full: Full) -> None:
    trn2 = Catalogue().system("trn2")
    found = hierarchical("all_reduce", 1e8, trn2, 16, TRANSPORT, "rhd")
    assert found.seconds == pytest.approx(in_full("all_reduce", 1e8, trn2, 16, TRANSPORT, "rhd"))
