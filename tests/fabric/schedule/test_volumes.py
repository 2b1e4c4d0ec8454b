"""Bytes that schedules move, against the closed forms of the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.schedule import Schedule, check, replay, schedule
from trainshed.fabric.schedule.trees import depths, parents, second

RANKS = st.integers(1, 40)


def sent(made: Schedule, by: str = "source") -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """``[ranks]`` parts of the size that each rank sends."""
    total = np.zeros(made.ranks)
    for step in made.steps:
        np.add.at(total, getattr(step, by), made.size(step, 1.0) * step.repeat)
    return total


def steps(made: Schedule) -> int:
    return sum(step.repeat for step in made.steps)


@pytest.mark.parametrize("name", ["ring", "bidirectional_ring", "mesh", "bruck", "hierarchical"])
@pytest.mark.parametrize(("kind", "rounds"), [("all_reduce", 2), ("all_gather", 1), ("reduce_scatter", 1)])
@given(n=RANKS)
def test_bandwidth_optimal_ways_send_the_least_there_is(name: str, kind: str, rounds: int, n: int) -> None:
    assert sent(schedule(kind, name, n)) == pytest.approx(rounds * (n - 1) / n)


@given(n=RANKS)
def test_halving_doubling(n: int) -> None:
    """Powers of two send the least; others hand S over before and after (Thakur, Rabenseifner, Gropp 2005, 4.4)."""
    p = 1 << (n.bit_length() - 1)
    wanted = np.zeros(n)
    wanted[:p] = 2 * (p - 1) / p
    wanted[: n - p] += 1.0
    wanted[p:] += 1.0
    made = schedule("all_reduce", "rhd", n)
    assert sent(made) == pytest.approx(wanted)
    assert len(made.steps) == 2 * int(math.log2(p)) + 2 * (n > p)


@given(n=RANKS)
def test_gathers_bring_everyone_what_it_lacks_and_no_more(n: int) -> None:
    for name in ("ring", "kangaring", "mesh", "rhd", "bruck", "hierarchical"):
        assert sent(schedule("all_gather", name, n), "target") == pytest.approx((n - 1) / n)


@given(n=RANKS)
def test_bruck_takes_log_steps_and_sends_every_hop(n: int) -> None:
    made = schedule("all_to_all", "bruck", n)
    assert len(made.steps) == (n - 1).bit_length()
    assert sent(made) == pytest.approx(sum(j.bit_count() for j in range(n)) / n)
    assert sent(schedule("all_to_all", "direct", n)) == pytest.approx((n - 1) / n)


@given(n=st.integers(2, 60))
def test_kangaring_crosses_chips_half_as_often(n: int) -> None:
    made = schedule("all_gather", "kangaring", n)
    chips = (n + 1) // 2
    across = [step for step in made.steps if (step.source // 2 != step.target // 2).any()]
    if n % 2 == 0:
        assert sum(step.repeat for step in across) == chips - 1
    crossing = np.zeros(chips)
    for step in made.steps:
        out = step.source // 2 != step.target // 2
        np.add.at(crossing, step.source[out] // 2, made.size(step, 1.0)[out] * step.repeat)
    assert crossing.sum() == pytest.approx(chips - 1)
    assert crossing.max() <= 1.0


@given(n=st.integers(1, 200))
def test_two_trees_have_no_rank_inside_both(n: int) -> None:
    """Sanders, Speck, Träff 2009: depth of at most ⌈log2 n⌉ and no rank with children in both but the roots."""
    parent = parents(n)
    assert depths(parent).max() <= math.ceil(math.log2(n))
    children = np.bincount(parent[1:], minlength=n)
    assert children.max(initial=0) <= 2
    other = np.zeros(n, np.int64)
    other[second(n)] = children
    roots = [0, int(second(n)[0])]
    both = (children > 0) & (other > 0)
    both[roots] = False
    assert not both.any()


@given(n=st.integers(2, 60), pieces=st.integers(1, 5))
def test_trees_send_up_and_down_once(n: int, pieces: int) -> None:
    for name in ("tree", "binary_tree"):
        made = schedule("all_reduce", name, n, pieces=pieces)
        assert sent(made).sum() == pytest.approx(2 * (n - 1))
    assert sent(schedule("all_reduce", "tree", n)).max() <= 2.0 + 0.5 * 2
    assert sent(schedule("all_reduce", "binary_tree", n)).max() <= 3.0


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 20), data=st.data())
def test_broadcasts_bring_everyone_the_buffer_once(n: int, data: st.DataObject) -> None:
    root = data.draw(st.integers(0, n - 1))
    for name in ("ring", "tree", "binary_tree", "binomial", "mesh", "scatter_ring"):
        made = schedule("broadcast", name, n, root=root)
        check(made)
        got = sent(made, "target")
        got[root] = 0.0
        wanted = np.where(np.arange(n) == root, 0.0, 1.0)
        slack = 1.0 / n if name == "scatter_ring" else 0.0  # the ring also brings what was scattered
        assert (np.abs(got - wanted) <= slack + 1e-9).all(), name
    assert len(schedule("broadcast", "binomial", n).steps) == (n - 1).bit_length()


@settings(max_examples=40, deadline=None)
@given(levels=st.lists(st.integers(1, 4), min_size=1, max_size=4), data=st.data())
def test_hierarchies_of_any_depth_and_mix(levels: list[int], data: st.DataObject) -> None:
    n = math.prod(levels)
    names = st.sampled_from(["ring", "bidirectional_ring", "kangaring", "mesh", "rhd", "bruck"])
    ways = data.draw(st.lists(names, min_size=len(levels), max_size=len(levels)))
    for kind in ("all_gather", "reduce_scatter", "all_reduce"):
        made = schedule(kind, "hierarchical", n, levels=levels, ways=ways)
        check(made)
        if kind == "all_reduce":
            given_ = np.random.default_rng(n).integers(-9, 9, (n, 7))
            assert np.array_equal(replay(made, given_), np.tile(given_.sum(axis=0), (n, 1)))
        assert sent(made).sum() == pytest.approx((2 if kind == "all_reduce" else 1) * (n - 1))


def crossing(made: Schedule, inner: int) -> float:
    """Parts of the size that leave domains of ``inner`` ranks, per rank."""
    out = 0.0
    for step in made.steps:
        away = step.source // inner != step.target // inner
        out += float(made.size(step, 1.0)[away].sum()) * step.repeat
    return out / made.ranks


@given(levels=st.lists(st.integers(2, 4), min_size=2, max_size=3))
def test_what_a_hierarchy_sends_over_each_level(levels: list[int]) -> None:
    """All_reduce: 2 · S/inner · (1 − 1/fan) per rank; all_to_all: S · (1 − 1/fan)."""
    n = math.prod(levels)
    reduce, swap = (schedule(k, "hierarchical", n, levels=levels) for k in ("all_reduce", "all_to_all"))
    inner = 1
    for k, fan in enumerate(levels):
        above = inner * fan
        assert crossing(reduce, inner) - crossing(reduce, above) == pytest.approx(2 / inner * (1 - 1 / fan))
        assert crossing(swap, inner) - crossing(swap, above) == pytest.approx(1 - 1 / fan)
        assert len(swap.steps[k]) == n * (fan - 1)
        inner = above


@pytest.mark.parametrize(
    ("kind", "name", "shape", "words"),
    [
        ("all_reduce", "rign", {}, "unknown algorithm of all_reduce: 'rign'; expected one of ring"),
        ("all_redoce", "ring", {}, "unknown collective"),
        ("all_reduce", "ring", {"pieces": 2}, "unknown setting: 'pieces'"),
        ("all_reduce", "tree", {"pieces": 0}, "pieces: 0"),
        ("all_reduce", "hierarchical", {"levels": (2, 3)}, "fans whose product is 8 ranks"),
        ("all_reduce", "hierarchical", {"levels": (2, 4), "ways": ("ring",)}, "one algorithm for each of 2 levels"),
        ("all_reduce", "hierarchical", {"ways": "tree"}, "unknown algorithm of a level"),
        ("broadcast", "ring", {"root": 8}, "root: 8; expected a rank from 0 to 7"),
        ("permute", "direct", {"partner": [0] * 8}, "each of the ranks 0 to 7 once"),
    ],
)
def test_bad_shapes_are_one_sentence(kind: str, name: str, shape: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as said:
        schedule(kind, name, 8, **shape)
    assert words in str(said.value)


def test_ranks_are_whole_and_positive() -> None:
    for ranks in (0, -1, 2.5):
        with pytest.raises(UserError, match="a whole number, at least 1"):
            schedule("all_reduce", "ring", ranks)  # type: ignore[arg-type]
