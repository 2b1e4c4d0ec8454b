"""Sends that differ for every pair: all_to_all and permute."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from trainshed.core import UserError
from trainshed.fabric.schedule.gather import others
from trainshed.fabric.schedule.registry import algorithm
from trainshed.fabric.schedule.steps import Schedule, Step


@algorithm("permute", "direct")
def permute(ranks: int, partner: ArrayLike | None = None) -> Schedule:
    """Each rank sends its buffer to ``partner[rank]``, without it to the next rank around."""
    r = np.arange(ranks)
    to = (r + 1) % ranks if partner is None else np.asarray(partner)
    if to.shape != (ranks,) or not np.array_equal(np.sort(to), r):
        raise UserError("partner", where="permute", value=np.asarray(to).tolist(),
                        expected=f"each of the ranks 0 to {ranks - 1} once")  # fmt: skip
    moving = np.flatnonzero(to != r)
    zero = np.zeros_like(moving)
    steps = (Step(source=moving, target=to[moving], slot=zero, to=zero),) if len(moving) else ()
    return Schedule(kind="permute", algorithm="", ranks=ranks, slots=1, slot_share=1.0, steps=steps, partner=to)


@algorithm("all_to_all", "direct")
def direct(ranks: int) -> Schedule:
    """Each rank sends S/n to each other, all at once; slot i is what is for, then what is from rank i."""
    source, target = others(ranks)
    steps = (Step(source=source, target=target, slot=target, to=source),) if ranks > 1 else ()
    return Schedule(kind="all_to_all", algorithm="", ranks=ranks, slots=ranks, slot_share=1.0 / ranks, steps=steps)
