"""Serving rows that state no plan: the best one of the row's chips, as who submitted the run would have chosen it.

Most tokens per second, then the shortest request. Arrivals of a rate that nobody states are as many as a latency limit
allows: so many users that the mean time per output token stays below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trainshed import serving
from trainshed.core import Array, Dtypes, Number, Plan, UserError
from trainshed.hardware.schema import System
from trainshed.models import Model
from trainshed.planner.serve import candidates
from trainshed.serving import Deployment, Workload
from trainshed.software.schema import Engine

#: Users that are tried where only a latency limit is known: powers of two.
_USERS = tuple(float(2**i) for i in range(14))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a row without a plan runs."""

    plan: Plan
    mode: str
    numbers: Mapping[str, float]


def choose(
    model: Model, system: System, engine: Engine, dtypes: Dtypes, *, chips: int, mode: str,
    numbers: Mapping[str, float], most_tpot_s: float | None = None,
) -> Choice:  # fmt: skip
    """The best plan of ``chips`` chips; in mode ``open`` without a rate a closed loop under ``most_tpot_s``."""
    capacity = mode == "open" and "rate_per_s" not in numbers and most_tpot_s is not None
    plans = list(candidates(model, system, chips))
    users = np.array(_USERS if capacity else (numbers.get("concurrency", 1.0),))
    table = Plan.stack([p for p in plans for _ in users])
    asked = {**numbers, "concurrency": np.tile(users, len(plans))} if capacity or mode == "closed" else dict(numbers)
    mode = "closed" if capacity else mode
    deployment = Deployment.of(serving.worker(model, system, table, dtypes, engine))
    outcome = serving.run(deployment, Workload(mode=mode, **asked))  # type: ignore[arg-type]
    size = len(plans) * len(users)
    fits = _column(outcome.room, size) >= 1.0
    if capacity and outcome.tpot is not None:
        fits &= _column(outcome.tpot.value, size) <= float(most_tpot_s or 0.0)
    if not np.any(fits):
        raise UserError("no plan fits", where=system.name, value=f"{chips} chips", expected="more memory")
    seconds = outcome.e2e or outcome.tpot or outcome.ttft
    rate, time = _column(outcome.tokens_per_s, size), _column(0.0 if seconds is None else seconds.value, size)
    best = int(np.lexsort((time, -np.round(rate, 6), ~fits))[0])
    found = {"concurrency": float(users[best % len(users)])} if capacity else {}
    return Choice(plan=table.at(best), mode=mode, numbers={**numbers, **found})


def _column(value: Number, size: int) -> Array:
    """One entry per plan: the mean over stacked constants."""
    array = np.asarray(value, dtype=np.float64)
    return np.array(np.broadcast_to(np.mean(array, axis=0) if array.ndim > 1 else array, (size,)))
