"""Groups of the default placement against ranks written out one by one."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from trainshed.core import Plan
from trainshed.parallel import spans


def enumerate_group(plan: Plan, axis: str) -> list[int]:
    """Ranks of the group of rank 0 along an axis: tp innermost, then cp, dp, pp."""
    order = [("tp", plan.tp), ("cp", plan.cp), ("dp", plan.dp), ("pp", plan.pp)]
    members = []
    for rank, index in enumerate(itertools.product(*(range(n) for _, n in reversed(order)))):
        at = dict(zip([name for name, _ in reversed(order)], index, strict=True))
        if all(at[name] == 0 for name, _ in order if name not in axis.split("+")):
            members.append(rank)
    return members


@pytest.mark.parametrize("text", ["tp4 cp2 dp3 pp2", "tp8", "tp2 pp4", "dp8 cp2"])
@pytest.mark.parametrize(("name", "axis"), [("tp", "tp"), ("cp", "cp"), ("dp", "cp+dp"), ("pp", "pp")])
def test_spans_are_the_enumerated_groups(text: str, name: str, axis: str) -> None:
    plan = Plan.parse(text)
    span = spans(plan)[name]
    written = [int(i * float(span.stride)) for i in range(int(float(span.ranks)))]
    assert written == enumerate_group(plan, axis)


def test_expert_groups_fold_the_same_ranks() -> None:
    span = spans(Plan.parse("tp2 dp8 ep4 etp2"))
    assert [float(span[n].ranks) for n in ("etp", "ep", "expert_dp")] == [2, 4, 2]
    assert [float(span[n].stride) for n in ("etp", "ep", "expert_dp")] == [1, 2, 8]


def test_a_table_has_a_group_per_plan() -> None:
    table = Plan.stack([Plan.parse("tp4 dp2"), Plan.parse("tp1 dp8")])
    assert np.array_equal(spans(table)["dp"].stride, [4, 1])
