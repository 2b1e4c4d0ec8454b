"""The transport's constants, and the flow level against the closed forms where nothing is in the way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric import Group, collective
from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.transport import transport
from trainshed.fabric.network.build import network
from trainshed.fabric.network.placement import place
from trainshed.fabric.schedule import join, schedule, sends
from trainshed.hardware import Catalogue
from trainshed.hardware.schema import Level, System

from ..conftest import level

SWITCH = (level("rack", 64, 1e11, key="a"),)
CHANNELS = (
    level("rack", 64, 4e11, key="b", low_latency=0.4, line=1.3e-6, line_rate=0.94, line_start=6e-6, bulk=2.8e-6,
          bulk_start=1.8e-6, last_step=0.4),
)  # fmt: skip
SLEDS = (level("sled", 4, 3e11, key="a"), level("rack", 24, 2e11, key="a", launch=9e-6, hop=3e-6))
TORUS = (level("server", 16, 4e11, topology="torus", dims=(4, 4), key="a"),)
SIZES = (1e3, 1e6, 1e9)


P5 = Catalogue().system("p5")


def system(levels: tuple[Level, ...]) -> System:
    """A system of these levels; its chips only count where engines do."""
    return replace(P5, name="test", levels=levels, max_chips=levels[-1].chips)


def closed(levels: tuple[Level, ...], kind: str, algorithm: str, ranks: int, size: float) -> float:
    found = collective(kind, size=size, group=Group(ranks=ranks), levels=levels, algorithm=algorithm)
    return float(found.time.value)


def on_links(
    fabric: tuple[Level, ...], kind: str, algorithm: str, ranks: int, size: float,
    orders: list[np.ndarray] | None = None, **shape: object,
) -> float:  # fmt: skip
    """The schedule on the network; with ``orders`` one part of the buffer along each."""
    where = system(fabric)
    graph = network(where, ranks)
    made = schedule(kind, algorithm, ranks, **shape)
    places = [place(graph, ranks)] if orders is None else [place(graph, ranks, order=order) for order in orders]
    parts = [sends(made, size / len(places), at, group=k) for k, at in enumerate(places)]
    how = transport(where, kind, algorithm=algorithm, size=size, ranks=ranks)
    return Flow().run(graph, join(parts), how).seconds


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ranks", [2, 3, 13, 32])
@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [(kind, way) for kind in ("all_reduce", "all_gather", "reduce_scatter") for way in ("ring", "mesh")]
    + [("all_reduce", "one_shot_mesh"), ("all_to_all", "direct"), ("permute", "direct")],
)
def test_behind_a_switch_schedules_take_what_closed_forms_say(
    kind: str, algorithm: str, ranks: int, size: float
) -> None:
    assert on_links(SWITCH, kind, algorithm, ranks, size) == pytest.approx(
        closed(SWITCH, kind, algorithm, ranks, size), rel=1e-6
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ranks", [2, 8, 64])
@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter"])
def test_halving_and_doubling_of_powers_of_two(kind: str, ranks: int, size: float) -> None:
    assert on_links(SWITCH, kind, "rhd", ranks, size) == pytest.approx(
        closed(SWITCH, kind, "rhd", ranks, size), rel=1e-6
    )


@pytest.mark.parametrize("size", [*SIZES, 3e4, 3e5])
@pytest.mark.parametrize("ranks", [2, 5, 16])
def test_rings_of_nccl_take_the_best_protocol_and_copy_in_the_end(ranks: int, size: float) -> None:
    for kind in ("all_reduce", "all_gather"):
        # the last copy is one hop more or less, by which of the two forms a closed form counts
        assert on_links(CHANNELS, kind, "ring", ranks, size) == pytest.approx(
            closed(CHANNELS, kind, "ring", ranks, size), rel=0.01
        )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ranks", [8, 24])
@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
def test_level_by_level(kind: str, ranks: int, size: float) -> None:
    found = on_links(SLEDS, kind, "hierarchical", ranks, size, levels=(4, ranks // 4))
    assert found == pytest.approx(closed(SLEDS, kind, "hierarchical", ranks, size), rel=1e-6)


@pytest.mark.parametrize("size", [1e6, 1e9])
@pytest.mark.parametrize("ranks", [8, 24])
def test_flat_exchanges_over_levels(ranks: int, size: float) -> None:
    assert on_links(SLEDS, "all_to_all", "direct", ranks, size) == pytest.approx(
        closed(SLEDS, "all_to_all", "direct", ranks, size), rel=0.01
    )


@pytest.mark.parametrize("size", SIZES)
def test_rings_on_a_torus_drive_all_links(size: float) -> None:
    """Two Hamiltonian cycles of a 4 x 4 torus that share no edge, both ways round: a quarter of the buffer each."""
    orders = []
    for across in (False, True):
        x = y = 0
        order = []
        for _ in range(16):
            order.append(x + 4 * y)
            turn = (x + y) % 4 == 3
            x, y = ((x + 1) % 4, y) if turn != across else (x, (y + 1) % 4)
        orders += [np.array(order), np.array(order[::-1])]
    assert on_links(TORUS, "all_reduce", "ring", 16, size, orders) == pytest.approx(
        closed(TORUS, "all_reduce", "ring", 16, size), rel=1e-6
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ranks", [3, 8])
def test_rings_on_a_ring_go_both_ways(ranks: int, size: float) -> None:
    levels = (level("server", ranks, 2e11, topology="ring", dims=(ranks,), key="a"),)
    order = np.arange(ranks)
    assert on_links(levels, "all_gather", "ring", ranks, size, [order, order[::-1]]) == pytest.approx(
        closed(levels, "all_gather", "ring", ranks, size), rel=1e-6
    )


def test_protocols_have_their_starts_hops_and_rates() -> None:
    where = system(CHANNELS)
    for protocol, start, hop, rate in (
        ("LL", 0.0, 0.0, 0.4), ("LL128", 6e-6, 1.3e-6, 0.94), ("Simple", 1.8e-6, 2.8e-6, 1.0),
    ):  # fmt: skip
        found = transport(where, "all_reduce", protocol, algorithm="ring")
        assert found.launch["rack"] == pytest.approx(7e-6 + start)
        assert found.hop["rack"] == pytest.approx(2e-6 + hop)
        assert found.reach["rack"] == pytest.approx(0.8 * rate)
        assert found.last_step["rack"] == 0.4
    assert transport(where, "all_reduce", algorithm="ring").name.endswith("Simple")
    assert transport(where, "all_reduce", algorithm="ring", size=1e3, ranks=8).name.endswith("LL")
    plain = transport(where, "all_reduce", algorithm="mesh")
    assert plain.launch["rack"] == pytest.approx(7e-6)
    assert not plain.last_step


def test_engines_and_memory_limit_a_chip() -> None:
    trn3 = Catalogue().system("trn3-gen2")
    chip = trn3.chip
    assert chip.neuron is not None
    engines = float(chip.cores.value) * float(chip.neuron.dma_bandwidth.value)
    assert transport(trn3, "all_reduce", memory="sbuf").inject == pytest.approx(engines)
    assert transport(trn3, "all_reduce").inject == pytest.approx(min(engines, float(chip.hbm_bandwidth.value) / 2))
    assert transport(Catalogue().system("p5"), "all_reduce").inject == np.inf
    assert transport(trn3.levels, "all_reduce").inject == np.inf


def test_point_to_point_calls_and_pairs_have_their_price() -> None:
    levels = (level("rack", 64, 1e11, key="c", post=3e-6, pair=1e-8, pair_most=16.0, message=5e-7),)
    assert transport(levels, "permute", ranks=32).launch["rack"] == pytest.approx(3e-6)
    assert transport(levels, "all_to_all", ranks=32).launch["rack"] == pytest.approx(3e-6 + 32 * 16 * 1e-8)
    assert transport(levels, "all_reduce", ranks=32).launch["rack"] == pytest.approx(7e-6)
    assert transport(levels, "all_reduce").message == {"rack": 5e-7}


def test_what_does_not_exist_is_told() -> None:
    with pytest.raises(UserError, match="unknown protocol"):
        transport(SWITCH, "all_reduce", "LL64")
    with pytest.raises(UserError, match="unknown memory"):
        transport(SWITCH, "all_reduce", memory="psum")
