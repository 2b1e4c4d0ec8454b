"""Tables of candidates and the Pareto front against plain Python."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainshed.core import Plan
from trainshed.planner.axes import divisors, pareto, powers_of_two, rows, table


@given(st.integers(1, 5000))
def test_divisors(number: int) -> None:
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]


def test_powers_of_two() -> None:
    assert powers_of_two(1) == [1]
    assert powers_of_two(100) == [1, 2, 4, 8, 16, 32, 64]


def test_every_combination_once() -> None:
    columns = table({"tp": [1, 2], "pp": [1, 3, 5]})
    assert sorted(zip(*columns.values(), strict=True)) == sorted(itertools.product([1, 2], [1, 3, 5]))


def test_rows_of_a_table() -> None:
    plan = rows(Plan(tp=np.array([1, 2, 4]), sp=1, lnc=2), np.array([2, 0]))
    assert list(np.asarray(plan.tp)) == [4, 1]
    assert list(np.asarray(plan.sp)) == [1, 1]
    assert plan.lnc == 2


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40))
def test_the_front_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    x, y = (np.array(c, dtype=np.float64) for c in zip(*points, strict=True))
    front = {points[i] for i in pareto(x, y)}
    beaten = {p for p in points if any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)}
    assert front == set(points) - beaten
