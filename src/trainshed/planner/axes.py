"""Tables of candidate plans: every combination of axes whose product is the number of ranks, as columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainshed.core import Plan

IntArray = NDArray[np.int64]


def divisors(number: int, *, most: int | None = None) -> list[int]:
    """All divisors up to ``most``, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    every = sorted({*small, *(number // d for d in small)})
    return [d for d in every if most is None or d <= most]


def powers_of_two(most: float) -> list[int]:
    """1, 2, 4, … up to ``most``."""
    return [1 << i for i in range(int(most).bit_length()) if 1 << i <= most]


def table(axes: Mapping[str, Sequence[int]]) -> dict[str, IntArray]:
    """Every combination of the axes, one column each; built without a Python loop over combinations."""
    grids = np.meshgrid(*(np.asarray(v, dtype=np.int64) for v in axes.values()), indexing="ij")
    return {name: grid.ravel() for name, grid in zip(axes, grids, strict=True)}


def keep(columns: Mapping[str, IntArray], mask: NDArray[np.bool_]) -> dict[str, IntArray]:
    """The rows where the mask is true."""
    return {name: column[mask] for name, column in columns.items()}


def rows(plan: Plan, index: NDArray[np.intp] | slice) -> Plan:
    """Some rows of a table of plans."""
    columns: dict[str, Any] = {}
    for f in fields(plan):
        value = getattr(plan, f.name)
        columns[f.name] = value if f.name == "lnc" else np.broadcast_to(value, plan.shape)[index]
    return Plan(**columns)


def pareto(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.intp]:
    """Indices of the points that no other point beats in both (less is better), by the first coordinate."""
    order = np.lexsort((second, first))
    best = np.minimum.accumulate(second[order])
    on_front = np.ones(order.size, dtype=np.bool_)
    on_front[1:] = second[order][1:] < best[:-1]
    front: NDArray[np.intp] = order[on_front]
    return front
