"""Once per step: gradients meet over the data-parallel ranks, the optimizer runs; per micro-batch: stages send."""

from __future__ import annotations

import numpy as np

from trainshed.core import Cost, Number, formula, total
from trainshed.ops.base import DeviceOps
from trainshed.parallel import RankWork, Span, held, spans, step_exchanges
from trainshed.training.blocks import BlockTimer
from trainshed.training.job import MOMENTS, TrainingJob
from trainshed.training.kernels import exposed


def data_parallel(
    work: RankWork, timer: BlockTimer, job: TrainingJob, *, behind_backward: Number, behind_forward: Number
) -> list[Cost]:  # fmt: skip
    """The gradients' reduction behind the last backward pass, the new weights' gather behind the first forward pass.

    (ZeRO 2 and 3 exchange gradients block by block: ``BlockTimer``.)
    """
    exchanges = step_exchanges(held(work), work.plan, timer.dtypes, trainable=job.trainable)
    hide = timer.framework.fit("overlap_dp")
    reduce = timer.links.together("reduce gradients", exchanges, "backward")
    gather = timer.links.together("gather new weights", exchanges, "forward")
    return [
        exposed("gradients, exposed", reduce, hide, behind_backward),
        exposed("new weights, exposed", gather, hide, behind_forward),
    ]


def stage_sends(work: RankWork, timer: BlockTimer, *, micro_batches: Number, behind: Number) -> list[Cost]:
    """Activations to the next stage and gradients back, once per micro-batch and virtual stage.

    Each rank of a TP group sends its part; without sequence parallelism the receivers gather the parts again
    (arXiv:2104.04473, section 4.1; DeepSpeed's pipe_partitioned).
    """
    plan = work.plan
    if not np.any(np.asarray(plan.pp) > 1):
        return []
    groups = spans(plan)
    split = np.asarray(plan.sp) > 0
    tensor = work.kind("layer")[0].inputs  # with sequence parallelism already the rank's part
    part = tensor / np.where(split, 1.0, groups["tp"].ranks)
    pair = Span(ranks=np.where(groups["pp"].ranks > 1, 2.0, 1.0), stride=groups["pp"].stride)
    again = Span(ranks=np.where(split | (pair.ranks == 1), 1.0, groups["tp"].ranks), stride=groups["tp"].stride)
    dtype = timer.dtypes.activations
    once = [timer.links.cost("permute", part, pair, dtype).time.named("send to the next stage")]
    if np.any(np.asarray(again.ranks) > 1):
        once.append(timer.links.cost("all_gather", tensor, again, dtype).time.named("gather what was received"))
    times = 2.0 * np.asarray(plan.vpp, dtype=np.float64) * micro_batches
    sends = formula("sends between stages", "s", "times * each", times=times, each=total("send", once))
    # frameworks that interleave overlap sends with other chunks' work, and only where there are other chunks
    alone = timer.framework.interleaves & (np.asarray(plan.vpp) == 1)
    hide = timer.framework.fit("overlap_pp")
    return [exposed("sends between stages, exposed", sends, hide, np.where(alone, 0.0, behind))]


def optimizer_step(work: RankWork, timer: BlockTimer, ops: DeviceOps, job: TrainingJob) -> Cost:
    """Gradient norm and update: fp32 master weights, moments and gradients stream through HBM once."""
    zero, groups, own = np.asarray(work.plan.zero), spans(work.plan), held(work)
    elements = job.trainable * (
        own.dense / np.where(zero >= 1, groups["dp"].ranks, 1.0)
        + own.experts / np.where(zero >= 1, groups["expert_dp"].ranks, 1.0)
    )
    moments = MOMENTS[job.optimizer]
    # gradients twice (norm, update), master weights and moments read and written, new weights written at half width
    cost = ops.elementwise(
        what="optimizer update", elements=elements, reads=3.0 + moments, writes=1.5 + moments, vector=12.0,
        transcendental=1.0, dtype="fp32",
    )  # fmt: skip
    share = timer.framework.fit("elementwise_share")
    return formula("optimizer", "s", "kernel / share", kernel=cost.time, share=share)
