"""What is wrong with a schedule is told in one sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.flow.sends import Sends
from trainshed.fabric.schedule import ALGORITHMS, Builder, Schedule, check, check_waits, schedule
from trainshed.fabric.schedule.check import arrivals

EVERY = [(kind, name) for kind, ways in ALGORITHMS.items() for name in ways]


def ints(*values: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def changed(kind: str, name: str, ranks: int, number: int, **change: object) -> Schedule:
    made = schedule(kind, name, ranks)
    steps = list(made.steps)
    steps[number] = replace(steps[number], **change)  # type: ignore[arg-type]
    return replace(made, steps=tuple(steps))


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (changed("all_gather", "ring", 4, 0, repeat=2), "ring all_gather: rank 0 ends with the wrong thing in slot 1"),
        (changed("reduce_scatter", "ring", 4, 0, repeat=2), "incomplete sum in slot 0: 'rank 1 is missing'"),
        (changed("all_reduce", "ring", 4, 1, reduce=True), "double in slot"),
        (changed("all_gather", "ring", 4, 0, shift=1), "sends slot 1 to rank 1: 'nothing in it yet'"),
        (changed("all_gather", "ring", 4, 0, target=ints(1, 2, 3, 4)), "target of send 3: 4; expected a rank from"),
        (changed("all_gather", "ring", 4, 0, source=ints(0, 1, 2, -1)), "source of send 3: -1"),
        (changed("all_gather", "ring", 4, 0, wrap=9), "slot of a read at rank 0: 7; expected a slot from 0 to 3"),
        (changed("all_gather", "ring", 4, 0, wrap=0), "shift without wrap"),
        (changed("all_gather", "ring", 4, 0, target=ints(0, 2, 3, 0)), "send 0 to itself: 0"),
        (changed("all_gather", "ring", 4, 0, reduce=True), "a send that adds up"),
        (changed("all_to_all", "direct", 3, 0, to=ints(0, 1, 2, 0, 1, 0)), "overwrite slot 0 of rank 1 at once"),
        (changed("reduce_scatter", "mesh", 3, 0, to=ints(1, 1, 2, 0, 1, 2)), "is added to slot"),
    ],
)  # fmt: skip
def test_a_broken_schedule_is_named(made: Schedule, words: str) -> None:
    with pytest.raises(UserError) as said:
        check(made)
    assert words in str(said.value)


def test_adding_to_nothing() -> None:
    build = Builder("all_reduce", 2, scratch=1)
    build.send(0, 1, 0, 1, reduce=True)
    with pytest.raises(UserError, match="expected something to add it to"):
        check(build.schedule())


@pytest.mark.parametrize(("kind", "name"), EVERY)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_without_one_of_its_sends_no_algorithm_is_right(kind: str, name: str, data: st.DataObject) -> None:
    """Every send of every algorithm is needed (a broadcast's ring also tells the root what it knows)."""
    made = schedule(kind, name, data.draw(st.integers(2, 9)))
    steps = list(made.steps)
    number = data.draw(st.integers(0, len(steps) - 1))
    step = steps[number]
    if not len(step) or (name == "scatter_ring" and number == 1):
        return
    left = np.delete(np.arange(len(step)), data.draw(st.integers(0, len(step) - 1)))
    weight = None if step.weight is None else step.weight[left]
    steps[number] = replace(step, source=step.source[left], target=step.target[left], slot=step.slot[left],
                            to=step.to[left], weight=weight)  # fmt: skip
    with pytest.raises(UserError, match=f"{name} {kind}"):
        check(replace(made, steps=tuple(steps)))


def test_arrivals_keep_their_order_and_never_write_twice() -> None:
    ranks = ints(1, 0, 1, 1, 0)
    turns = arrivals(ranks, ints(5, 5, 5, 2, 6)[:, None])
    assert [sorted(t.tolist()) for t in turns] == [[0, 1, 3, 4], [2]]
    overlapping = arrivals(ints(0, 0, 1), np.array([[1, 2], [2, 3], [1, 2]]))
    assert [sorted(t.tolist()) for t in overlapping] == [[0, 2], [1]]


def waiting(*before: list[int]) -> Sends:
    count = len(before)
    return Sends(
        source=np.zeros(count, np.int64), target=np.ones(count, np.int64), size=np.ones(count),
        first=np.cumsum([0, *(len(b) for b in before)]), before=ints(*(k for b in before for k in b)),
        earliest=np.zeros(count), group=np.zeros(count, np.int64),
    )  # fmt: skip


def test_sends_that_wait_for_each_other() -> None:
    check_waits(waiting([], [0], [0, 1]))
    check_waits(waiting([2], [0], []))
    with pytest.raises(UserError, match=r"in a circle: '1 after 3 after 2 after 1'"):
        check_waits(waiting([], [3], [1], [0, 2], [3]))
    with pytest.raises(UserError, match="0 after 0"):
        check_waits(waiting([0]))
