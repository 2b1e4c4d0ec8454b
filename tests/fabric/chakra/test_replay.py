"""When nodes happen, against times worked out by hand and against bounds that hold for any trace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.chakra import Builder, Call, Trace, schema
from trainshed.fabric.chakra.answer import accounts
from trainshed.fabric.chakra.replay import run

REDUCE = Call(kind="all_reduce")


def timed(trace: Trace, talk: float = 0.0) -> np.ndarray:
    """The trace's seconds; what communicates takes ``talk``, a receive nothing of its own."""
    return np.where(trace.call >= 0, np.where(trace.kind == schema.RECEIVE, 0.0, talk), np.nan_to_num(trace.seconds))


def test_a_chain_and_a_lane() -> None:
    made = Builder(name="t", ranks=1)
    a = made.compute(0, "a", 1.0)
    made.compute(0, "b", 2.0, [a])
    made.compute(0, "c", 4.0)  # ready at 0, but behind a in its lane, and before b has its turn by id: b first
    made.add(0, schema.LOAD, "d", seconds=8.0)
    made.add(0, schema.COMPUTE, "e", seconds=16.0, host=True)
    trace = made.trace()
    times = run(trace, timed(trace))
    assert times.begin.tolist() == [0.0, 1.0, 3.0, 0.0, 0.0]
    assert times.end.tolist() == [1.0, 3.0, 7.0, 8.0, 16.0]


def test_a_collective_begins_with_its_last_member() -> None:
    made = Builder(name="t", ranks=3)
    for rank in range(3):
        a = made.compute(rank, "a", 1.0 + rank)
        b = made.collective(rank, "b", REDUCE, 8.0, made.group(range(3)), [a])
        made.compute(rank, "c", 10.0, [b])
    trace = made.trace()
    times = run(trace, timed(trace, talk=5.0))
    assert times.ready[1::3].tolist() == [1.0, 2.0, 3.0]
    assert times.begin[1::3].tolist() == [3.0] * 3
    assert times.total == 18.0
    where = accounts(trace, times)
    assert where.compute.tolist() == [11.0, 12.0, 13.0]
    assert where.exposed.tolist() == [5.0] * 3
    assert where.idle.tolist() == [2.0, 1.0, 0.0]
    assert where.kinds["all_reduce"].waited == 3.0
    assert (where.kinds["all_reduce"].calls, where.kinds["all_reduce"].seconds) == (1, 5.0)


def test_what_hides_behind_compute_is_not_exposed() -> None:
    made = Builder(name="t", ranks=2)
    for rank in range(2):
        a = made.compute(rank, "a", 1.0)
        b = made.collective(rank, "b", REDUCE, 8.0, made.group(range(2)), [a])
        made.compute(rank, "c", 3.0, [a])
        made.compute(rank, "d", 1.0, [b])
    trace = made.trace()
    where = accounts(trace, run(trace, timed(trace, talk=5.0)))
    assert where.total == 7.0
    assert where.communication.tolist() == [5.0, 5.0]
    assert where.exposed.tolist() == [2.0, 2.0]


def test_messages_wait_for_both_sides_but_senders_do_not() -> None:
    made = Builder(name="t", ranks=2)
    a = made.send(0, "s", 8.0, 1, 0)
    made.compute(0, "next", 1.0, [a])
    made.receive(0, "r", 8.0, 1, 1)
    late = made.compute(1, "late", 7.0)
    got = made.receive(1, "r", 8.0, 0, 0, [late])
    made.send(1, "s", 8.0, 0, 1, [got])
    trace = made.trace()
    times = run(trace, timed(trace, talk=2.0))
    assert times.end.tolist() == [2.0, 3.0, 9.0, 7.0, 7.0, 9.0]
    assert times.begin[2] == 7.0  # posted at 0, under way from 7


def overlapping() -> Trace:
    """Rank 1 is in two groups that are both ready at 0."""
    made = Builder(name="t", ranks=3)
    left, right = made.group([0, 1]), made.group([1, 2])
    for rank, groups in enumerate(([left], [right, left], [right])):
        for group in groups:
            made.collective(rank, "x", REDUCE, 8.0, group)
    return made.trace()


def test_links_take_one_collective_at_a_time_or_all() -> None:
    trace = overlapping()
    assert run(trace, timed(trace, talk=5.0)).total == 10.0
    assert run(trace, timed(trace, talk=5.0), one_at_a_time=False).total == 5.0


def test_groups_called_in_another_order_do_not_block() -> None:
    made = Builder(name="t", ranks=2)
    one, two = made.group([0, 1], "1"), made.group([0, 1], "2")
    for rank, groups in enumerate(([one, two], [two, one])):
        for group in groups:
            made.collective(rank, "x", REDUCE, 8.0, group)
    trace = made.trace()
    assert run(trace, timed(trace, talk=5.0)).total == 10.0


def test_dependencies_against_each_other_are_one_sentence() -> None:
    made = Builder(name="t", ranks=2)
    one, two = made.group([0, 1], "1"), made.group([0, 1], "2")
    for rank, groups in enumerate(([one, two], [two, one])):
        before: list[int] = []
        for group in groups:
            before = [made.collective(rank, "x", REDUCE, 8.0, group, before)]
    with pytest.raises(UserError, match=r"node 0 .*: ranks wait for each other for ever: 'waits for rank 1'"):
        run(made.trace(), timed(made.trace()))


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Three ranks that compute and meet, in one order, with random dependencies."""
    made = Builder(name="t", ranks=3)
    groups = [made.group(m) for m in ((0, 1, 2), (0, 1), (1, 2))]
    plan = draw(st.lists(st.tuples(st.sampled_from((None, 0, 1, 2)), st.integers(0, 5)), min_size=1, max_size=8))
    for rank in range(3):
        mine: list[int] = []
        for group, seconds in plan:
            if group is not None and rank not in ((0, 1, 2), (0, 1), (1, 2))[group]:
                continue
            after = draw(st.lists(st.sampled_from(mine), unique=True, max_size=2)) if mine else []
            mine.append(
                made.compute(rank, "c", float(seconds), after) if group is None
                else made.collective(rank, "x", REDUCE, 8.0, groups[group], after)
            )  # fmt: skip
    return made.trace()


@settings(max_examples=30, deadline=None)
@given(traces(), st.floats(0.0, 4.0))
def test_laws_of_every_replay(trace: Trace, talk: float) -> None:
    seconds = timed(trace, talk)
    times = run(trace, seconds)
    after = np.repeat(np.arange(len(trace)), np.diff(trace.first))
    assert (times.ready[after] >= times.end[trace.before]).all()
    assert (times.begin >= times.ready).all()
    np.testing.assert_allclose(times.end - times.begin, seconds, atol=1e-12)
    for kind in (schema.COMPUTE, schema.COLLECTIVE):
        for rank in range(3):
            mine = np.flatnonzero((trace.rank == rank) & (trace.kind == kind))
            mine = mine[np.lexsort((times.end[mine], times.begin[mine]))]
            assert (times.begin[mine][1:] >= times.end[mine][:-1] - 1e-12).all()
    where = accounts(trace, times)
    np.testing.assert_allclose(where.compute + where.exposed + where.idle, times.total, atol=1e-9)
    assert (where.exposed <= where.communication + 1e-12).all()
    assert run(trace, seconds * 2.0).total == pytest.approx(times.total * 2.0)
