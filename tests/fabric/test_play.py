"""A collective played on its network against its closed form and against what it must move."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.collective import collective
from trainshed.fabric.flow.fair import Flow
from trainshed.fabric.flow.transport import transport
from trainshed.fabric.group import Group
from trainshed.fabric.network.build import network
from trainshed.fabric.on_links import Ask, of_system, played
from trainshed.fabric.play import made_for
from trainshed.fabric.schedule import check, schedule, sends
from trainshed.hardware import Catalogue

CATALOGUE = Catalogue()


def play_one(system: str, chips: int, kind: str, algorithm: str, size: float = 2.0**24):
    place = of_system(CATALOGUE.system(system), chips)
    ask = Ask(kind=kind, size=size, ranks=chips, algorithm=algorithm)
    return played(place, ask)[algorithm]


@pytest.mark.parametrize(
    ("system", "chips", "kind", "algorithm"),
    [
        ("trn3-gen2", 4, "all_reduce", "ring"), ("trn3-gen2", 4, "all_gather", "mesh"),
        ("trn3-gen2", 72, "all_reduce", "hierarchical"), ("trn3-gen2", 144, "all_reduce", "hierarchical"),
        ("trn3-gen2", 144, "all_to_all", "hierarchical"), ("trn3-gen1", 64, "reduce_scatter", "hierarchical"),
        ("trn3-gen2", 288, "all_reduce", "hierarchical"), ("trn2", 16, "all_reduce", "ring"),
        ("trn2", 4, "all_reduce", "ring"), ("trn2", 2, "all_reduce", "mesh"),
        ("trn1", 16, "all_gather", "ring"),
    ],
)  # fmt: skip
def test_without_contention_links_say_what_the_closed_form_says(system, chips, kind, algorithm):
    done = play_one(system, chips, kind, algorithm)
    closed = collective(
        kind, size=2.0**24, group=Group(ranks=chips), levels=CATALOGUE.system(system).levels, algorithm=algorithm
    )
    assert done.seconds == pytest.approx(float(closed.time.value), rel=0.01)


@pytest.mark.parametrize(
    ("system", "chips", "kind"),
    [("p5", 16, "all_reduce"), ("trn2", 32, "all_gather"), ("trn2-ultra", 64, "reduce_scatter"),
     ("trn3-gen2", 8, "all_reduce")],
)  # fmt: skip
def test_rings_over_domains_drive_the_links_that_the_closed_form_counts(system, chips, kind):
    """A single ring would leave a server over one adapter: 8 times slower on p5, 16 times on Trn2."""
    done = play_one(system, chips, kind, "ring", 1e9)
    closed = collective(
        kind, size=1e9, group=Group(ranks=chips), levels=CATALOGUE.system(system).levels, algorithm="ring"
    )
    assert done.seconds == pytest.approx(float(closed.time.value), rel=0.05)


@pytest.mark.parametrize(("ranks_per_chip", "size"), [(1, 1e9), (2, 1e9), (1, 1e10)])
def test_a_hierarchy_drives_all_links_of_its_tori(ranks_per_chip, size):
    """64 Trn2 chips: four rings inside each torus, both ways round between them, as the closed form counts."""
    system = CATALOGUE.system("trn2-ultra")
    ask = Ask(kind="all_reduce", size=size, ranks=64 * ranks_per_chip, algorithm="hierarchical",
              ranks_per_chip=ranks_per_chip)  # fmt: skip
    done = played(of_system(system, 64), ask)["hierarchical"]
    closed = collective(
        "all_reduce", size=size, group=Group(ranks=64 * ranks_per_chip), levels=system.levels,
        algorithm="hierarchical", ranks_per_chip=float(ranks_per_chip),
    )  # fmt: skip
    assert done.seconds == pytest.approx(float(closed.time.value), rel=0.01)
    check(done.schedule)


@pytest.mark.parametrize("size", [1.0, 1e5, 1e7, 1e9])
@pytest.mark.parametrize(("kind", "algorithm"), [("broadcast", "ring"), ("broadcast", "tree"), ("all_reduce", "tree")])
def test_a_buffer_goes_in_about_as_many_pieces_as_are_best(kind, algorithm, size):
    system = CATALOGUE.system("trn3-gen2")
    chosen = play_one("trn3-gen2", 4, kind, algorithm, size)
    pays = transport(system, kind, algorithm=algorithm, size=size, ranks=4)
    times = [
        Flow().run(chosen.network, sends(schedule(kind, algorithm, 4, pieces=k), size, chosen.placement), pays).seconds
        for k in (1, 2, 3, 4, 8, 16, 32, 64, 128, 256)
    ]
    assert chosen.seconds <= 1.05 * min(times)


def test_bytes_on_links_are_what_the_algorithm_sends_over_their_routes():
    done = play_one("trn3-gen2", 144, "all_to_all", "direct")
    # Every chip sends 143 of 144 parts; one switch link out and one in, more where the twin's rack is passed.
    sent = float(done.sends.size.sum())
    assert sent == pytest.approx(144 * 143 / 144 * 2.0**24)
    out = sum(used.carried for used in done.levels.values())
    assert out >= 1.5 * sent
    # Half of all pairs are in different racks, and each of their messages crosses a direct link once.
    assert done.levels["ultraserver"].carried == pytest.approx(144 * 72 * 2.0**24 / 144)
    assert all(0 <= used.peak <= 1 + 1e-9 for used in done.levels.values())


def test_shapes_follow_the_levels():
    from trainshed.fabric.group import spread

    shares = spread(Group(ranks=144), CATALOGUE.system("trn3-gen2").levels)
    made = made_for("all_reduce", "hierarchical", 144, shares=shares)
    assert made.ranks == 144
    # Mesh at each of the three levels, inwards and back: six steps.
    assert sum(step.repeat for step in made.steps) == 6
    eight = spread(Group(ranks=8), CATALOGUE.system("trn2").levels)
    assert made_for("all_reduce", "kangaring", 8, shares=eight).algorithm == "ring"


def test_groups_that_do_not_fit_the_levels_are_one_sentence():
    with pytest.raises(UserError, match="as many in each domain"):
        play_one("trn3-gen2", 100, "all_reduce", "hierarchical")
    with pytest.raises(UserError, match="schedule of all_reduce"):
        play_one("trn2", 4, "all_reduce", "nvls")


def test_a_group_that_needs_no_link_above_its_domain_builds_none():
    net = network(CATALOGUE.system("trn3-gen2"), 4)
    assert "network" not in net.levels
    assert np.count_nonzero(net.kind == 0) == net.chips == 4
