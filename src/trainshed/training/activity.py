"""What a step makes the average rank do: counts that energy follows from."""

from __future__ import annotations

import numpy as np

from trainshed.core import Activity, Attention, Number, Recompute
from trainshed.core.activity import NOTHING
from trainshed.parallel import BlockWork, RankWork, block_exchanges, held, step_exchanges
from trainshed.training.blocks import BlockTimer
from trainshed.training.job import TrainingJob


def step_activity(work: RankWork, timer: BlockTimer, job: TrainingJob) -> Activity:
    """Activity of all blocks over a step, divided by the pipeline stages that share them, and the step's exchanges."""
    plan, links = work.plan, timer.links
    recompute = np.asarray(plan.recompute)
    once = step_exchanges(held(work), plan, timer.dtypes, trainable=job.trainable)
    result = Activity(links=links.bytes_of(once))
    for block in work.blocks:
        exchanges = block_exchanges(block, plan, timer.dtypes, frozen=timer.frozen)
        each = _block(block, recompute) + Activity(links=links.bytes_of([*block.collectives, *exchanges]))
        result = result + each.scaled(block.block.count * job.micro_batches(plan) / np.asarray(plan.pp))
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
