"""How groups spread over levels."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.group import Group, spread
from trainshed.hardware.schema import Level

from .conftest import level


def fans(group: Group, levels: tuple[Level, ...], ranks_per_chip: float = 1.0) -> dict[str, float]:
    return {s.level.name: float(s.fan) for s in spread(group, levels, ranks_per_chip)}


LEVELS = (
    level("sled", 4, 1e11), level("rack", 72, 1e11), level("ultraserver", 144, 1e11), level("network", 10**6, 1e10),
)  # fmt: skip


def test_a_dense_group_fills_the_levels_from_inside() -> None:
    assert fans(Group(ranks=288), LEVELS) == {"sled": 4, "rack": 18, "ultraserver": 2, "network": 2}


def test_a_strided_group_skips_the_levels_that_its_stride_leaves() -> None:
    assert fans(Group(ranks=4, stride=72), LEVELS) == {"ultraserver": 2, "network": 2}
    assert fans(Group(ranks=9, stride=8), LEVELS) == {"rack": 9}


def test_a_group_of_one_reaches_nothing() -> None:
    assert fans(Group(ranks=1, stride=5), LEVELS) == {}


def test_ranks_of_one_chip_meet_at_the_chip_or_for_free() -> None:
    inside = (level("chip", 1, 1e12, topology="chip"), level("rack", 16, 1e11))
    assert fans(Group(ranks=16), inside, 4.0) == {"chip": 4, "rack": 4}
    assert fans(Group(ranks=16, stride=4), inside, 4.0) == {"rack": 16}
    (share,) = spread(Group(ranks=16), (level("rack", 16, 1e11),), 4.0)
    assert (float(share.inner), float(share.fan)) == (4, 4)


def test_what_is_larger_than_the_last_level_joins_there() -> None:
    assert fans(Group(ranks=32), (level("node", 8, 1e11), level("pod", 16, 1e10))) == {"node": 8, "pod": 4}


@given(
    ranks=st.integers(1, 4096), stride=st.sampled_from([1, 2, 4, 8, 36, 72, 144]), per_chip=st.sampled_from([1.0, 2.0])
)
def test_fans_multiply_to_the_ranks(ranks: int, stride: int, per_chip: float) -> None:
    chip = (level("chip", 1, 1e12, topology="chip"), *LEVELS)
    shares = spread(Group(ranks=ranks, stride=stride), chip, per_chip)
    assert np.prod([float(s.fan) for s in shares]) == pytest.approx(ranks)
    for inner, outer in pairwise(shares):
        assert float(outer.inner) == pytest.approx(float(inner.members))
    assert sum(float(s.outermost) for s in shares) == (1 if ranks > 1 else 0)


def test_arrays_are_groups_side_by_side() -> None:
    ranks, stride = np.array([1, 4, 8, 288]), np.array([1, 1, 72, 1])
    table = {s.level.name: s.fan for s in spread(Group(ranks=ranks, stride=stride), LEVELS)}
    for i in range(4):
        alone = fans(Group(ranks=ranks[i], stride=stride[i]), LEVELS)
        assert {name: fan[i] for name, fan in table.items() if fan[i] > 1} == alone


@pytest.mark.parametrize("bad", [{"ranks": 0}, {"ranks": 4, "stride": 0}, {"ranks": np.array([2, -1])}])
def test_sizes_below_one_are_a_user_error(bad: dict[str, int]) -> None:
    with pytest.raises(UserError, match="of a group below 1"):
        Group(**bad)
