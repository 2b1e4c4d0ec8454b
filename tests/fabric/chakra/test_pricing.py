"""What nodes take alone."""

from __future__ import annotations

import numpy as np
import pytest

from trainshed.core import UserError
from trainshed.fabric import Group, collective
from trainshed.fabric.chakra import Builder, Call, schema
from trainshed.fabric.chakra.pricing import ClosedForms, Roofline, communication, roofline, work
from trainshed.hardware import Catalogue

SYSTEM = Catalogue().system("trn2")
ROOF = Roofline(flops=1e12, bandwidth=1e11)


def test_durations_recorded_or_modelled() -> None:
    made = Builder(name="t", ranks=1)
    for seconds, ops, moved, host in (
        (3.0, 1e12, 1.0, False), (np.nan, 2e12, 1.0, False), (np.nan, 1.0, 5e11, False),
        (np.nan, np.nan, np.nan, False), (7.0, np.nan, np.nan, False),
        (9.0, 1e12, np.nan, True), (np.nan, 4e12, np.nan, False),
    ):  # fmt: skip
        made.add(0, schema.COMPUTE, "c", seconds=seconds, ops=ops, bytes=moved, host=host)
    made.add(0, schema.METADATA, "m", seconds=11.0)
    trace = made.trace()
    assert work(trace, ROOF).tolist() == [3.0, 2.0, 5.0, 0.0, 7.0, 9.0, 4.0, 0.0]
    assert work(trace, ROOF, "roofline").tolist() == [1.0, 2.0, 5.0, 0.0, 7.0, 9.0, 4.0, 0.0]


def test_a_rank_has_its_part_of_the_chip() -> None:
    whole, part = roofline(SYSTEM, 1), roofline(SYSTEM, 4)
    assert whole.flops == float(SYSTEM.chip.flops["bf16"].value) == 4 * part.flops
    assert whole.bandwidth == float(SYSTEM.chip.hbm_bandwidth.value) == 4 * part.bandwidth
    with pytest.raises(UserError, match="int3"):
        roofline(SYSTEM, 1, "int3")


def test_calls_take_what_the_closed_forms_say() -> None:
    made = Builder(name="t", ranks=16)
    every = made.group(range(16))
    for rank in range(16):
        made.collective(rank, "a", Call(kind="all_reduce"), 2.0**20, every)
        made.collective(rank, "b", Call(kind="all_gather"), 2.0**24, made.group([rank % 4 + 4 * k for k in range(4)]))
        made.collective(rank, "c", Call(kind="all_reduce"), 8.0, made.group([rank]))
    trace = made.trace()
    found = communication(trace, ClosedForms(levels=SYSTEM.levels))

    def alone(kind: str, size: float, ranks: int, stride: int) -> float:
        cost = collective(kind, size=size, group=Group(ranks=ranks, stride=stride), levels=SYSTEM.levels)
        return float(cost.time.value)

    np.testing.assert_allclose(found[0::3], alone("all_reduce", 2**20, 16, 1))
    np.testing.assert_allclose(found[1::3], alone("all_gather", 2**24, 4, 4))
    assert (found[2::3] == 0).all()


def test_groups_meet_at_the_level_where_they_are() -> None:
    forms = ClosedForms(levels=Catalogue().system("p5").levels)  # servers of eight
    pairs = {(0, 7): 4.0, (0, 1): 1.0, (7, 8): 8.0, (3, 12): 9.0}
    assert {pair: forms.stride(np.array(pair)) for pair in pairs} == pairs
    near, far = (forms.seconds(Call(kind="permute"), np.array([1e6]), [np.array(p)])[0] for p in ((0, 7), (7, 8)))
    assert far > near
    assert forms.stride(np.array([8, 9, 10, 15])) == 2.0
    assert forms.stride(np.array([5])) == 1.0
