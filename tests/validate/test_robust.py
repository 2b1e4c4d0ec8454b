"""The solver against problems whose answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainshed.validate.robust import Floats, Problem, Solution, loss, solve, without


def problem(p: int, n: int, *, start: float = 0.0, spread: float = 1e3, bound: float = 1e3) -> Problem:
    one = np.ones(p)
    return Problem(start=start * one, low=-bound * one, high=bound * one, spread=spread * one, weights=np.ones(n))


def linear(A: Floats, b: Floats) -> tuple[Callable[[Floats], Floats], Callable[[Floats, Floats], Floats]]:
    return (lambda x: A @ x - b), (lambda x, r: A)


def test_an_exact_line_is_found() -> None:
    A = np.column_stack([np.ones(20), np.arange(20.0) / 20])
    solution = solve(problem(2, 20), *linear(A, A @ np.array([0.3, -1.2])), steps=30, tolerance=1e-12)
    assert solution.x == pytest.approx([0.3, -1.2], abs=1e-4)


def test_outliers_hardly_move_it() -> None:
    b = np.array([1.0] * 20 + [100.0] * 3)
    solution = solve(problem(1, 23), *linear(np.ones((23, 1)), b), steps=60, tolerance=1e-10)
    assert solution.x[0] == pytest.approx(1.0, abs=0.03)


def test_bounds_hold_and_the_prior_keeps_the_unknown() -> None:
    A = np.array([[1.0, 0.0]] * 5)
    start = problem(2, 5, start=0.5, spread=0.7, bound=0.8)
    solution = solve(start, *linear(A, np.full(5, 3.0)), steps=20)
    assert solution.x == pytest.approx([0.8, 0.5])


def test_without_equals_a_new_fit() -> None:
    rng = np.random.default_rng(7)
    A, b = rng.normal(size=(60, 3)), rng.normal(size=60)
    out = np.arange(60) < 15
    full = solve(problem(3, 60, spread=0.5), *linear(A, b), steps=200, tolerance=1e-14)
    again = solve(problem(3, 45, spread=0.5), *linear(A[~out], b[~out]), steps=200, tolerance=1e-14)
    assert without(problem(3, 60, spread=0.5), full, out) == pytest.approx(again.x, abs=1e-3)


def test_leaving_everything_out_gives_the_estimate() -> None:
    A = np.ones((4, 1))
    full = Solution(x=np.array([2.0]), residuals=np.zeros(4), jacobian=A, loss=0.0)
    assert without(problem(1, 4, start=0.4), full, np.ones(4, bool)) == pytest.approx([0.4])


def test_the_loss_is_quadratic_then_linear() -> None:
    one = problem(1, 1)
    small, double = (loss(one, np.zeros(1), np.array([r])) for r in (0.001, 0.002))
    far, twice = (loss(one, np.zeros(1), np.array([r])) for r in (10.0, 20.0))
    assert double / small == pytest.approx(4, rel=1e-3)
    assert twice / far == pytest.approx(2, rel=0.02)
