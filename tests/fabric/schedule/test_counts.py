"""all_to_all with counts per pair, and experts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainshed.core import UserError
from trainshed.fabric.schedule import Schedule, check, replay, schedule
from trainshed.fabric.schedule.steps import Floats

LEVELS = st.lists(st.integers(1, 4), min_size=1, max_size=3)


def table(n: int, seed: int, zeros: float = 0.4) -> Floats:
    random = np.random.default_rng(seed)
    counts = random.integers(1, 90, (n, n)) * (random.random((n, n)) > zeros)
    counts[0, 0] = 1
    return counts.astype(np.float64)


def carried(made: Schedule, size: float) -> Floats:
    """``[ranks, ranks]`` bytes between each pair."""
    total = np.zeros((made.ranks, made.ranks))
    for step in made.steps:
        np.add.at(total, (step.source, step.target), made.size(step, size) * step.repeat)
    return total


@given(n=st.integers(1, 12), seed=st.integers(0, 99))
def test_direct_sends_each_pair_its_count(n: int, seed: int) -> None:
    counts = table(n, seed)
    made = schedule("all_to_all", "direct", n, counts=counts)
    check(made)
    alone = counts * (1 - np.eye(n))
    assert carried(made, counts.sum() / n) == pytest.approx(alone)
    assert made.sends == np.count_nonzero(alone)


@settings(max_examples=40, deadline=None)
@given(levels=LEVELS, seed=st.integers(0, 99))
def test_levels_relay_what_is_counted(levels: list[int], seed: int) -> None:
    """Brute force: each pair's bytes take one digit of the ranks after another."""
    n = math.prod(levels)
    counts = table(n, seed)
    made = schedule("all_to_all", "hierarchical", n, levels=levels, counts=counts)
    check(made)
    wanted = np.zeros((n, n))
    for source in range(n):
        for target in range(n):
            at, inner = source, 1
            for fan in levels:
                to = at + (target // inner % fan - at // inner % fan) * inner
                wanted[at, to] += counts[source, target] * (at != to)
                at, inner = to, inner * fan
    assert carried(made, counts.sum() / n) == pytest.approx(wanted)


@given(n=st.integers(2, 9), seed=st.integers(0, 99))
def test_pairs_with_counts_get_their_values(n: int, seed: int) -> None:
    counts = table(n, seed)
    for name in ("direct", "hierarchical"):
        data = np.random.default_rng(seed).normal(size=(n, n, 3)).astype(np.float32)
        got = replay(schedule("all_to_all", name, n, counts=counts), data.reshape(n, -1)).reshape(n, n, 3)
        busy = counts.T > 0
        assert np.array_equal(got[busy], data.transpose(1, 0, 2)[busy])


@settings(max_examples=40, deadline=None)
@given(levels=LEVELS, copies=st.integers(1, 8), seed=st.integers(0, 99))
def test_experts_with_counts(levels: list[int], copies: int, seed: int) -> None:
    n = math.prod(levels)
    counts = table(n, seed)
    size = counts.sum() / n
    direct = schedule("moe_dispatch", "direct", n, copies=copies, counts=counts)
    once = schedule("moe_dispatch", "hierarchical", n, levels=levels, copies=copies, counts=counts)
    for made in (direct, once):
        check(made)
    assert carried(direct, size) == pytest.approx(counts * (1 - np.eye(n)))
    for name, there in (("direct", direct), ("hierarchical", once)):
        shape = {"levels": levels} if name == "hierarchical" else {}
        back = schedule("moe_combine", name, n, copies=copies, counts=counts, **shape)
        check(back)
        assert carried(back, size) == pytest.approx(carried(there, size).T)


@given(levels=st.lists(st.integers(2, 4), min_size=2, max_size=3), copies=st.integers(1, 8))
def test_a_token_crosses_to_a_domain_once(levels: list[int], copies: int) -> None:
    """copies experts drawn evenly hit D · (1 − (1 − 1/D)^copies) of D domains; 1/D of them is home."""
    n = math.prod(levels)
    made = schedule("moe_dispatch", "hierarchical", n, levels=levels, copies=copies)
    check(made)
    inner = n // levels[-1]
    total = carried(made, float(copies))
    r = np.arange(n)
    away = total[r[:, None] // inner != r // inner].sum() / n
    domains = levels[-1]
    assert away == pytest.approx((domains - 1) * (1 - (1 - 1 / domains) ** copies))
    flat = carried(schedule("moe_dispatch", "direct", n, copies=copies), float(copies))
    assert flat.sum() / n == pytest.approx(copies * (n - 1) / n)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (np.ones((3, 4)), "a table of 4 × 4 ranks"),
        (-np.ones((4, 4)), "at least 0"),
        (np.zeros((4, 4)), "not all 0"),
        (np.full((4, 4), np.nan), "at least 0"),
    ],
)
def test_bad_counts_are_one_sentence(counts: Floats, words: str) -> None:
    for kind in ("all_to_all", "moe_dispatch", "moe_combine"):
        for name in ("direct", "hierarchical"):
            with pytest.raises(UserError, match=words):
                schedule(kind, name, 4, counts=counts)


def test_no_copies() -> None:
    with pytest.raises(UserError, match="experts per token, at least 1"):
        schedule("moe_combine", "direct", 4, copies=0)
