"""What a step makes the average rank do: counts that energy follows from."""

from __future__ import annotations

import numpy as np

from trainshed.core import Activity, Attention, Number, Recompute
from trainshed.core.activity import NOTHING
from trainshed.parallel import BlockWork, RankWork
from trainshed.training.links import Links


def step_activity(work: RankWork, links: Links, micro_batches: Number) -> Activity:
    """Activity of all blocks over a step, divided by the pipeline stages that share them."""
    recompute = np.asarray(work.plan.recompute)
    result = NOTHING
    for block in work.blocks:
        each = _block(block, recompute) + Activity(links=links.bytes_of(block))
        result = result + each.scaled(block.block.count * micro_batches / np.asarray(work.plan.pp))
    return result


def _block(block: BlockWork, recompute: np.ndarray) -> Activity:
    result = NOTHING
    for w in block.ops:
        least = Recompute.SELECTIVE if isinstance(w.op, Attention) else Recompute.FULL
        again: Number = np.where(recompute >= least, 1.0, 0.0) if block.block.kind == "layer" else 0.0
        result = result + w.forward.activity.scaled(1.0 + again)
        for c in w.backward:
            result = result + c.activity
    return result
