"""Ranks, and costs of operators put together."""

from __future__ import annotations

import pytest

from trainshed.core import Activity, Cost, UserError
from trainshed.hardware.schema import Chip
from trainshed.ops import OpCost, Rank, device, together
from trainshed.ops.neuron import NeuronOps


def cost(seconds: float, bytes_: float) -> OpCost:
    return OpCost(time=Cost("x", "s", "sum", seconds), activity=Activity(memory={"hbm": bytes_}), launches=1.0)


def test_a_rank_owns_its_cores_share_of_the_chip(v3: Chip) -> None:
    assert Rank(chip=v3).share == 1 / 8
    assert Rank(chip=v3, cores=2).share == 1 / 4
    assert isinstance(device(Rank(chip=v3, cores=2)), NeuronOps)


@pytest.mark.parametrize("cores", [0, 9, -1])
def test_a_rank_cannot_have_more_cores_than_the_chip(v3: Chip, cores: int) -> None:
    with pytest.raises(UserError, match=r"cores of one rank out of range.*1 to 8"):
        Rank(chip=v3, cores=cores)


def test_costs_add_up_and_scale() -> None:
    both = together("both", [cost(1.0, 10.0), cost(2.0, 5.0).scaled(3.0)])
    assert both.time.value == 7.0
    assert both.activity.memory["hbm"] == 25.0
    assert both.launches == 4.0
    assert together("nothing", []).time.value == 0.0
