"""Values of collectives between ranks: what the fabric's schedule of the chosen algorithm makes of them.

The order of a sum is the algorithm's: along a ring, by halves, … . Every addition is made in float32 and rounded to the
tensors' dtype, for what travels from rank to rank, and what the DMA engines add to what they find, has that dtype (the
Trainium3 architecture guide, on near-memory accumulation). So a sum of n ranks has n - 1 roundings, and two
algorithms may differ in the last bits. Ranks of an all_reduce get the same sums, but by the one-shot mesh, where each
adds up for itself, its own first. What is only moved keeps its bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from trainshed.fabric import CollectiveCost
from trainshed.fabric.schedule import ALGORITHMS, Schedule, replay, schedule

Array = np.ndarray[Any, Any]


def moved(kind: str, cost: CollectiveCost, arrays: Sequence[Array], op: str | None = None) -> list[Array]:
    """What each rank gets of ``arrays``, one of each rank in the group's order; flat.

    ``kind`` is one of the fabric's; ``op`` is ``add``, ``minimum`` or ``maximum`` of reductions.
    """
    flat = np.stack([item.reshape(-1) for item in arrays])
    if len(flat) == 1:
        return [flat[0]]
    steps = schedule_of(kind, cost)
    if op is not None:
        return list(replay(steps, flat, op))
    return list(replay(steps, flat.view(np.uint8)).view(flat.dtype))


def schedule_of(kind: str, cost: CollectiveCost) -> Schedule:
    """The schedule of the algorithm that a collective's cost has chosen."""
    assert cost.call is not None
    return _schedule(kind, str(cost.chosen), int(np.asarray(cost.call.ranks)), _levels(cost))


def _levels(cost: CollectiveCost) -> tuple[int, ...] | None:
    """How many domains the group joins at each level, innermost first; None where levels are not evenly filled."""
    fans = [float(np.asarray(share.fan)) for share in cost.call.shares] if cost.call is not None else []
    whole = tuple(int(fan) for fan in fans if fan > 1)
    return whole if cost.call is not None and np.prod(fans) == np.prod(whole) == cost.call.ranks else None


@lru_cache(maxsize=64)
def _schedule(kind: str, algorithm: str, ranks: int, levels: tuple[int, ...] | None) -> Schedule:
    known = ALGORITHMS[kind]
    if algorithm not in known:  # of what is only moved every algorithm makes the same
        algorithm = next(iter(known))
    if algorithm == "hierarchical" and levels is not None:
        return schedule(kind, algorithm, ranks, levels=levels)
    return schedule(kind, algorithm, ranks)
