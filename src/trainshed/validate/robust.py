"""Robust least squares by reweighted Gauss–Newton steps, with bounds and a prior: what fitting and leaving out need.

Minimises Σ wᵢ·ρ(rᵢ/s) + Σ ((xⱼ − x0ⱼ)/σⱼ)² with ρ(z) = 2(√(1+z²) − 1): quadratic near zero, linear far away, so that
medians and not outliers decide. The prior keeps what the rows do not tell near its starting estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Residual (log error) at which the loss turns from quadratic to linear.
SCALE = 0.1


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a fit knows about its unknowns x of shape (p,), and the weights of its residuals, shape (n,)."""

    start: Floats
    low: Floats
    high: Floats
    spread: Floats
    """Standard deviation of the prior around ``start``."""
    weights: Floats


@dataclass(frozen=True, kw_only=True)
class Solution:
    """An optimum with its residuals (n,) and Jacobian (n, p), which is all that leaving rows out needs."""

    x: Floats
    residuals: Floats
    jacobian: Floats
    loss: float


def loss(problem: Problem, x: Floats, residuals: Floats) -> float:
    """The value that is minimised."""
    robust = 2.0 * (np.sqrt(1.0 + (residuals / SCALE) ** 2) - 1.0)
    return float(problem.weights @ robust + np.sum(((x - problem.start) / problem.spread) ** 2))


def step(
    problem: Problem, x: Floats, residuals: Floats, jacobian: Floats, *, around: Floats | None = None,
    damping: float = 0.0,
) -> Floats:  # fmt: skip
    """One reweighted Gauss–Newton step, inside the bounds; unknowns held by a bound do not move the others.

    ``damping`` holds the step near ``around``, the place where the Jacobian was taken.
    """
    weights = problem.weights / np.sqrt(1.0 + (residuals / SCALE) ** 2) / SCALE**2
    prior = 1.0 / problem.spread**2
    normal = jacobian.T @ (weights[:, None] * jacobian) + np.diag(prior)
    slope = jacobian.T @ (weights * residuals) + prior * (x - problem.start)
    if around is not None:
        hold = damping * np.diag(normal)
        normal, slope = normal + np.diag(hold), slope + hold * (x - around)
    free = ~(((x <= problem.low) & (slope > 0)) | ((x >= problem.high) & (slope < 0)))
    move = np.zeros_like(x)
    if free.any():
        move[free] = -np.linalg.solve(normal[np.ix_(free, free)], slope[free])
    moved: Floats = np.clip(x + move, problem.low, problem.high)
    return moved


def linear_optimum(
    problem: Problem, x: Floats, residuals: Floats, jacobian: Floats, *, damping: float = 0.0, steps: int = 30
) -> Floats:
    """The optimum if the model were the straight line through ``x``: steps that cost nothing."""
    y = x
    for _ in range(steps):
        line = residuals + jacobian @ (y - x)
        y = step(problem, y, line, jacobian, around=x, damping=damping)
    return y


def solve(
    problem: Problem, residuals: Callable[[Floats], Floats], jacobian: Callable[[Floats, Floats], Floats],
    *, steps: int = 8, tolerance: float = 2e-3, report: Callable[[int, float], None] = lambda n, value: None,
) -> Solution:  # fmt: skip
    """Linearise, go to that line's optimum, again; more damping where that does not help."""
    x = np.clip(problem.start, problem.low, problem.high)
    r = residuals(x)
    value, damping = loss(problem, x, r), 1e-3
    J = jacobian(x, r)
    for n in range(steps):
        report(n, value)
        for _ in range(5):
            new = linear_optimum(problem, x, r, J, damping=damping)
            new_r = residuals(new)
            new_value = loss(problem, new, new_r)
            if new_value <= value:
                break
            damping = 20.0 * max(damping, 1e-2)
        else:
            break
        gain, x, r, value, damping = value - new_value, new, new_r, new_value, damping / 10.0
        J = jacobian(x, r)
        if gain < tolerance * max(value, 1e-12):
            break
    return Solution(x=x, residuals=r, jacobian=J, loss=value)


def without(problem: Problem, solution: Solution, left_out: NDArray[np.bool_]) -> Floats:
    """The optimum of the other rows, on the model linearised at the full optimum."""
    kept = replace(problem, weights=np.where(left_out, 0.0, problem.weights))
    return linear_optimum(kept, solution.x, solution.residuals, solution.jacobian)
