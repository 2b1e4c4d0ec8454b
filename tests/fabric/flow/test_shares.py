"""Max-min fairness against the textbook, and against what defines it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.fabric.flow.shares import Wire, max_min


def csr(rows: list[list[tuple[int, float]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    link = np.array([at for row in rows for at, _ in row])
    share = np.array([part for row in rows for _, part in row])
    return np.cumsum([0, *map(len, rows)]), link, share


def one_by_one(rows: list[list[tuple[int, float]]], count: list[float], capacity: list[float]) -> list[float]:
    """All rates grow together; those on a full link stop."""
    rate, growing = [0.0] * len(rows), set(range(len(rows)))
    room = list(capacity)
    while growing:
        use = [sum(count[f] * part for f in growing for at, part in rows[f] if at == k) for k in range(len(room))]
        step = min(room[k] / use[k] for k in range(len(room)) if use[k] > 0)
        for f in growing:
            rate[f] += step
        room = [r - step * u for r, u in zip(room, use, strict=True)]
        full = {k for k in range(len(room)) if use[k] > 0 and room[k] <= 1e-9 * capacity[k]}
        growing -= {f for f in growing if any(at in full for at, _ in rows[f])}
    return rate


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[tuple[int, float]]], list[float], list[float]]:
    links = draw(st.integers(1, 8))
    parts = st.sampled_from([0.2, 0.25, 0.5, 1.0])
    row = st.dictionaries(st.integers(0, links - 1), parts, min_size=1).map(lambda d: sorted(d.items()))
    rows = draw(st.lists(row, min_size=1, max_size=12))
    count = [float(draw(st.integers(1, 4))) for _ in rows]
    return rows, count, [draw(st.floats(0.5, 50.0)) for _ in range(links)]


@settings(max_examples=80, deadline=None)
@given(problems())
def test_rates_are_those_of_filling_all_links_together(
    problem: tuple[list[list[tuple[int, float]]], list[float], list[float]],
) -> None:
    rows, count, capacity = problem
    found = max_min(*csr(rows), np.array(count), np.array(capacity))
    np.testing.assert_allclose(found, one_by_one(rows, count, capacity), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(problems())
def test_every_flow_has_a_full_link_on_which_none_is_faster(
    problem: tuple[list[list[tuple[int, float]]], list[float], list[float]],
) -> None:
    rows, count, capacity = problem
    rate = max_min(*csr(rows), np.array(count), np.array(capacity))
    load = np.zeros(len(capacity))
    for f, row in enumerate(rows):
        for at, part in row:
            load[at] += count[f] * rate[f] * part
    assert (load <= np.array(capacity) * (1 + 1e-9)).all()
    for f, row in enumerate(rows):
        assert any(
            load[at] >= capacity[at] * (1 - 1e-9)
            and all(rate[g] <= rate[f] * (1 + 1e-9) for g, other in enumerate(rows) if at in dict(other))
            for at, _ in row
        )


def test_the_books_example() -> None:
    """Two flows on a thin link leave the rest of a wide one to the third."""
    rows = [[(0, 1.0)], [(0, 1.0), (1, 1.0)], [(1, 1.0)]]
    assert max_min(*csr(rows), np.ones(3), np.array([1.0, 10.0])) == pytest.approx([0.5, 0.5, 9.5])


def test_a_wire_gives_its_flows_equal_parts() -> None:
    wire = Wire(10.0)
    wire.add(0.0, 1, 100.0)
    assert wire.due == pytest.approx(10.0)
    wire.add(5.0, 2, 20.0)  # 50 bytes left of the first, 5 B/s each
    assert wire.due == pytest.approx(9.0)
    assert wire.drain(wire.due) == [2]
    assert wire.due == pytest.approx(12.0)
    assert wire.leave(11.0) == [(1, pytest.approx(10.0))]
    assert wire.busy == pytest.approx(11.0)
