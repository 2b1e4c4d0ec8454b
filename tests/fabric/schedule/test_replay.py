"""Schedules with values, against NumPy: every algorithm, odd, prime and other numbers of ranks, odd sizes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from trainshed.core import UserError
from trainshed.fabric.schedule import ALGORITHMS, check, replay, schedule

Values = NDArray[Any]
EVERY = [(kind, name) for kind, ways in ALGORITHMS.items() for name in ways]
RANKS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16, 17, 31, 48, 60, 144)


def elements(kind: str, n: int, blocks: int) -> int:
    return blocks * n if kind in ("reduce_scatter", "all_to_all", "moe_combine") else blocks


def expected(kind: str, given: Values, op: Any = np.add) -> Values:
    n = len(given)
    match kind:
        case "all_reduce":
            return np.tile(op.reduce(given, axis=0), (n, 1))
        case "reduce_scatter" | "moe_combine":
            return np.asarray(op.reduce(given, axis=0).reshape(n, -1))
        case "all_gather" | "moe_dispatch":
            return np.tile(given.reshape(-1), (n, 1))
        case "broadcast":
            return np.tile(given[0], (n, 1))
        case "permute":
            return np.roll(given, 1, axis=0)
        case _:
            return given.reshape(n, n, -1).transpose(1, 0, 2).reshape(n, -1)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_every_algorithm_gives_what_numpy_gives(kind: str, name: str) -> None:
    random = np.random.default_rng(7)
    for n in RANKS:
        made = schedule(kind, name, n)
        check(made)
        given = random.integers(-1000, 1000, (n, elements(kind, n, 5)))
        assert np.array_equal(replay(made, given), expected(kind, given)), n


@pytest.mark.parametrize(("kind", "name"), EVERY)
@pytest.mark.parametrize("op", ["maximum", "multiply"])
def test_other_operations(kind: str, name: str, op: str) -> None:
    given = np.random.default_rng(3).integers(1, 4, (6, elements(kind, 6, 3)))
    assert np.array_equal(replay(schedule(kind, name, 6), given, op), expected(kind, given, getattr(np, op)))


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_what_nobody_wrote_is_never_read(kind: str, name: str) -> None:
    """Of floats the empty slots are NaN."""
    for n in (5, 8):
        given = np.random.default_rng(n).normal(size=(n, elements(kind, n, 4)))
        assert np.allclose(replay(schedule(kind, name, n), given), expected(kind, given), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(ALGORITHMS["all_reduce"]))
def test_floats_come_close_to_the_exact_sum(name: str) -> None:
    given = np.random.default_rng(5).normal(size=(12, 35))
    made = schedule("all_reduce", name, 12)
    exact = given.sum(axis=0)
    assert np.allclose(replay(made, given.astype(np.float32)), exact, atol=1e-5)
    low = replay(made, given.astype(ml_dtypes.bfloat16))
    assert low.dtype == ml_dtypes.bfloat16
    assert np.abs(low.astype(np.float64) - exact).max() < 0.2


def test_the_order_of_a_sum_is_the_schedules() -> None:
    """A ring adds rank after rank, each sum rounded to bf16: slot 0 of 4 begins at rank 1 and ends at rank 0."""
    given = np.array([[1.0], [256.0], [1.0], [1.0]]).astype(ml_dtypes.bfloat16)
    parts = np.tile(given, (1, 4))
    got = replay(schedule("all_reduce", "ring", 4), parts).astype(np.float64)
    order = [[(slot - k) % 4 for k in range(1, 5)] for slot in range(4)]
    for slot in range(4):
        total = given[order[slot][0], 0]
        for rank in order[slot][1:]:
            total = total + given[rank, 0]
        assert (got[:, slot] == float(total)).all(), slot
    assert len(set(got[0].tolist())) > 1


@pytest.mark.parametrize(
    ("shape", "op", "words"),
    [
        ((3, 4), "add", r"\(4 ranks, elements\)"),
        ((4,), "add", r"\(4 ranks, elements\)"),
        ((4, 6), "add", "multiple of 4"),
        ((4, 4), "average", "unknown operation"),
    ],
)
def test_bad_input_is_one_sentence(shape: tuple[int, ...], op: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        replay(schedule("reduce_scatter", "ring", 4), np.zeros(shape), op)


def test_no_elements_at_all() -> None:
    assert replay(schedule("all_reduce", "ring", 4), np.zeros((4, 0))).shape == (4, 0)
