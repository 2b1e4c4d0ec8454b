"""NCCL's tables choose the protocol of a ring, and time never falls with size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.fabric import Group, collective
from trainshed.fabric.group import spread
from trainshed.fabric.protocols import PROTOCOLS, intervals, known
from trainshed.hardware import Catalogue

from .conftest import HOP, LAUNCH, PLANNED, REACH, WIRE, level

ALPHA = HOP + WIRE
RATES = {"LL": 0.4, "LL128": 0.92, "Simple": 1.0}
LEVEL = level(
    "rack", 72, 100e9, low_latency=0.4, line_rate=0.92, line_start=7e-6, bulk_start=22e-6, planned_reach=0.75, **PLANNED
)


def planned(ranks: int, size: float, rounds: int = 1) -> dict[str, float]:
    """The estimates of NCCL, one by one."""
    steps = rounds * (ranks - 1)
    moved = rounds * (ranks - 1) / ranks * size / (100e9 * 0.75)
    return {
        "LL": 6e-6 + steps * 0.6e-6 + moved / 0.4, "LL128": 14e-6 + steps * 1.9e-6 + moved / 0.92,
        "Simple": 8e-6 + steps * 3.4e-6 + moved,
    }  # fmt: skip


def seconds(ranks: int, size: float, kind: str = "all_gather") -> float:
    found = collective(kind, size=size, group=Group(ranks=ranks), levels=(LEVEL,), algorithm="ring")
    return float(found.time.value)


def own(name: str, ranks: int, size: float) -> float:
    """What a protocol takes of an all_gather."""
    start = {"LL": 0.0, "LL128": 7e-6, "Simple": 22e-6}[name]
    moved = (ranks - 1) / ranks * size / (100e9 * REACH)
    return LAUNCH + start + (ranks - 1) * ALPHA + moved / RATES[name]


@settings(max_examples=200, deadline=None)
@given(ranks=st.integers(2, 72), size=st.floats(1.0, 1e11), rounds=st.sampled_from([1, 2]))
def test_intervals_are_where_each_estimate_is_least(ranks: int, size: float, rounds: int) -> None:
    (share,) = spread(Group(ranks=ranks), (LEVEL,))
    found = intervals(share, float(rounds))
    assert found is not None
    times = planned(ranks, size, rounds)
    best = min(times, key=lambda name: times[name])
    inside = {
        p.name for p, (begin, end) in zip(known(share), found, strict=True)
        if begin < end and float(begin) <= size <= float(end)
    }  # fmt: skip
    close = {name for name, t in times.items() if t <= times[best] * (1 + 1e-9)}
    assert inside & close


@pytest.mark.parametrize("ranks", [2, 4, 8, 32, 72])
def test_the_protocol_with_the_least_estimate_counts_or_a_later_one(ranks: int) -> None:
    seen = set()
    for size in 10.0 ** np.arange(3, 11, 0.1):
        times = planned(ranks, size)
        best = min(times, key=lambda name: times[name])
        seen.add(best)
        found = seconds(ranks, size)
        assert found <= own(best, ranks, size) * (1 + 1e-9)
        if found < own(best, ranks, size) * (1 - 1e-9):  # as long as the first larger buffer of a later protocol
            longer = [own(b, ranks, x) for x in size * 10.0 ** np.arange(0.0, 3.0, 0.001)
                      for b in [min(planned(ranks, x), key=lambda name, x=x: planned(ranks, x)[name])]]  # fmt: skip
            assert found == pytest.approx(min(longer), rel=3e-3)
    assert {"LL", "Simple"} <= seen


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["p4d", "p5", "p6-b200", "gb200-nvl72", "gb300-nvl72"]), ranks=st.integers(2, 72),
    kind=st.sampled_from(["all_reduce", "all_gather", "reduce_scatter"]), size=st.floats(1.0, 1e11),
    factor=st.floats(1.0, 8.0),
)  # fmt: skip
def test_time_never_falls_with_size(name: str, ranks: int, kind: str, size: float, factor: float) -> None:
    levels = Catalogue().system(name).levels
    small, large = (
        float(collective(kind, size=x, group=Group(ranks=ranks), levels=levels).time.value)
        for x in (size, size * factor)
    )
    assert small <= large * (1 + 1e-9)


def test_ranks_and_sizes_may_be_columns() -> None:
    ranks, sizes = np.array([1.0, 2.0, 8.0, 72.0]), np.array([1e3, 1e6, 1e8, 1e10])
    found = collective("all_gather", size=sizes, group=Group(ranks=ranks), levels=(LEVEL,), algorithm="ring").time.value
    each = [0.0, *(seconds(int(n), s) for n, s in zip(ranks[1:], sizes[1:], strict=True))]
    assert np.asarray(found)[1:] == pytest.approx(each[1:])


def test_without_tables_the_cheapest_counts() -> None:
    plain = level("rack", 72, 100e9, low_latency=0.4)
    (share,) = spread(Group(ranks=8), (plain,))
    assert intervals(share, 1.0) is None
    assert [p.name for p in known(share)] == ["LL", "Simple"]
    assert [p.name for p in PROTOCOLS] == ["LL", "LL128", "Simple"]
