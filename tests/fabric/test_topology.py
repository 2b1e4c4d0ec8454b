"""What a group can use of a torus, ring, mesh or switch, against hand counts and brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from trainshed.fabric.group import Group, Share, spread
from trainshed.fabric.topology import distance, doubling_distance, extra_layers, one_link, usable
from trainshed.hardware.schema import Level

from .conftest import level


def share(lv: Level, ranks: int, stride: int = 1) -> Share:
    return spread(Group(ranks=ranks, stride=stride), (lv,))[0]


TORUS = level("t", 16, 4e11, topology="torus", dims=(4, 4))
TORUS3 = level("t3", 64, 6e11, topology="torus", dims=(4, 4, 4))
RING = level("r", 12, 1e11, topology="ring", dims=(12,))
TWINS = level("twins", 2, 1e11, topology="ring", dims=(2,))
MESH = level("m", 8, 7e11, topology="mesh")


@pytest.mark.parametrize(
    ("lv", "ranks", "stride", "expected"),
    [
        (TORUS, 16, 1, 1.0),  # all four links
        (TORUS, 4, 1, 0.5),  # one row: two links of four
        (TORUS, 4, 4, 0.5),  # one column
        (TORUS, 2, 1, 0.25),  # a pair: one link
        (TORUS, 8, 1, 0.75),  # a closed row and a pair of rows
        (TORUS3, 64, 1, 1.0),
        (TORUS3, 16, 1, 2 / 3),
        (RING, 12, 1, 1.0),
        (RING, 3, 1, 0.5),  # no way back but through itself
        (RING, 4, 3, 1 / 3),  # three groups interleave on the ring, each closed
        (TWINS, 2, 1, 1.0),
        (MESH, 8, 1, 1.0),
        (MESH, 2, 1, 1 / 7),
        (level("s", 8, 1e11), 3, 1, 1.0),
    ],
)
def test_links_that_rings_drive(lv: Level, ranks: int, stride: int, expected: float) -> None:
    assert float(usable(share(lv, ranks, stride))) == pytest.approx(expected)


def test_irregular_wiring_lists_its_rings() -> None:
    cube = level("cube", 8, 1.5e11, topology="mesh", rings=(1, 2, 4, 2, 2, 4, 6))
    assert [float(usable(share(cube, n))) for n in (2, 4, 5, 8)] == pytest.approx([1 / 6, 4 / 6, 2 / 6, 1.0])


def brute_distance(dims: tuple[int, ...]) -> float:
    """Mean shortest way from a corner to all others of a torus."""

    def around(a: int, d: int) -> int:
        return min(a, d - a)

    ways = [sum(around(a, d) for a, d in zip(at, dims, strict=True)) for at in product(*(range(d) for d in dims))]
    return sum(ways) / (len(ways) - 1)


@pytest.mark.parametrize("dims", [(4,), (4, 4), (8,), (4, 4, 4), (2, 4)])
def test_mean_distance_on_a_torus(dims: tuple[int, ...]) -> None:
    chips = int(np.prod(dims))
    lv = level("t", chips, 1e11, topology="torus", dims=dims)
    assert float(distance(share(lv, chips))) == pytest.approx(brute_distance(dims), rel=0.01)


@pytest.mark.parametrize("dims", [(4,), (8,), (4, 4), (2,), (8, 4)])
def test_recursive_halving_on_a_torus_by_walking_its_steps(dims: tuple[int, ...]) -> None:
    """Partners at 1, 2, 4, … along one dimension after another; each step halves what is left."""
    left, passed, sent = 1.0, 0.0, 0.0
    for dim in dims:
        apart = 1
        while apart < dim:
            left /= 2
            passed, sent, apart = passed + left * apart, sent + left, 2 * apart
    chips = int(np.prod(dims))
    lv = level("t", chips, 1e11, topology="torus", dims=dims)
    assert float(np.asarray(doubling_distance(share(lv, chips)))) == pytest.approx(passed / sent)
    assert float(np.asarray(doubling_distance(share(MESH, 8)))) == 1


def test_a_switch_is_one_link_away() -> None:
    assert float(distance(share(level("s", 8, 1e11), 8))) == 1
    assert one_link(share(level("s", 8, 1e11), 8)) == 1
    assert float(one_link(share(TORUS, 16))) == 0.25
    assert float(one_link(share(TORUS, 4, 4))) == 0.25  # neighbours of a column are adjacent
    assert float(one_link(share(TORUS, 2, 2))) == 0.125  # two apart in a row: another pair shares the way
    assert one_link(share(MESH, 8)) == pytest.approx(1 / 7)


@pytest.mark.parametrize(("chips", "layers"), [(64, 0), (65, 1), (8192, 1), (8193, 2), (524_288, 2), (1_000_000, 3)])
def test_layers_of_a_leaf_spine_network(chips: int, layers: int) -> None:
    """One leaf of 64 down ports; 8,192 endpoints on two layers and 524,288 on three (SemiAnalysis, Trainium3)."""
    network = level("network", 10**6, 1e10, topology="leaf-spine", radix=128.0)
    assert float(extra_layers(share(network, chips))) == layers
    assert extra_layers(share(TORUS, 4)) == 0
