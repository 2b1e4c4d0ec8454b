"""Calls on links: the closed forms' time where nothing contends, another where the place of a group counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric.chakra import Builder, Call, replay, write
from trainshed.fabric.chakra.links import OnLinks
from trainshed.fabric.chakra.pricing import ClosedForms
from trainshed.fabric.network.build import network
from trainshed.hardware import Catalogue

SYSTEM = Catalogue().system("p5")
ON = OnLinks(system=SYSTEM, network=network(SYSTEM, 16))
CLOSED = ClosedForms(levels=SYSTEM.levels)


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "moe_dispatch"])
def test_a_server_s_ranks_take_the_closed_form_s_time(kind: str) -> None:
    call = Call(kind=kind, algorithm="direct" if kind.startswith("moe") else "ring")
    size, members = np.array([2.0**24, 2.0**28]), [np.arange(8)] * 2
    np.testing.assert_allclose(ON.seconds(call, size, members), CLOSED.seconds(call, size, members), rtol=1e-2)


def test_where_a_group_is_counts() -> None:
    call, size = Call(kind="permute"), np.array([2.0**24] * 3)
    inside, again, across = ON.seconds(call, size, [np.array(m) for m in ([0, 7], [8, 15], [7, 8])])
    assert inside == pytest.approx(again)
    assert across > 2 * inside
    assert ON.seconds(call, size[:1], [np.array([3])])[0] == 0.0


def test_a_hierarchy_has_the_fans_of_the_levels() -> None:
    call = Call(kind="all_reduce", algorithm="hierarchical")
    found = ON.seconds(call, np.array([2.0**26] * 2), [np.arange(16), np.array([0, 2, 5, 9])])
    assert (found > 0).all()
    with pytest.raises(UserError, match="a rank beyond the network: 16; expected at most 16 ranks"):
        ON.seconds(call, np.array([8.0]), [np.array([0, 16])])


def test_a_replay_on_links(tmp_path: Path) -> None:
    made = Builder(name="t", ranks=8)
    for rank in range(8):
        made.collective(rank, "x", Call(kind="all_reduce", algorithm="ring"), 2.0**28, made.group(range(8)))
    write(made.trace(), tmp_path / "t")
    closed, links = (replay(tmp_path / "t", SYSTEM, fabric=fabric) for fabric in (None, ON))
    assert links.result["time_s"] == pytest.approx(closed.result["time_s"], rel=1e-2)
    assert not any("closed forms" in str(a.value) for a in links.assumptions)
