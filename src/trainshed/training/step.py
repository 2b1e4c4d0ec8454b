"""One optimizer step in closed form: the slowest pipeline stage, filling and draining, communication, optimizer.

    step = compute + exposed communication + pipeline bubble + optimizer + other

compute: m micro-batches on the slowest stage. bubble: every other stage once, divided by the virtual stages. Exposed:
what tensor, expert, context, pipeline, data and sharded-data parallelism leave in the open after the framework's
overlap. Every degree of the plan, the global batch and every constant's value may be an array.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from trainshed.core import Activity, Cost, Number, Plan, formula, total
from trainshed.hardware.schema import System
from trainshed.models import Model
from trainshed.ops.base import DeviceOps, Rank, device
from trainshed.parallel import Memory, RankWork, per_rank, training_memory
from trainshed.software.schema import Framework
from trainshed.training.activity import step_activity
from trainshed.training.blocks import BlockTimer, BlockTimes
from trainshed.training.figures import model_flops, peak_flops
from trainshed.training.job import MOMENTS, TrainingJob
from trainshed.training.kernels import Kernels
from trainshed.training.links import Links
from trainshed.training.reduction import data_parallel, optimizer_step, stage_sends
from trainshed.training.schedule import Schedule, choose_stage

#: The terms of a step, in the order of the result's ``time_breakdown_s``.
TERMS = ("compute", "communication_exposed", "pipeline_bubble", "optimizer", "other")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingStep:
    """What one optimizer step takes; arrays where plans are a table."""

    time: Cost
    terms: dict[str, Cost]
    memory: Memory
    """Bytes per rank."""
    count: Callable[[], Activity]
    """Counts the activity when somebody asks."""
    plan: Plan
    chips: Number
    batch: Number
    """Sequences of the whole step."""
    tokens: Number
    """Tokens of the whole step."""
    flops: Number
    """Model FLOPs of the whole step: no recomputation, causal attention halved."""
    peak: Number
    """FLOP/s of one chip in the job's product dtype."""
    capacity: Number
    """HBM bytes of one rank."""
    stage: Schedule
    blocks: tuple[BlockTimes, ...]

    @property
    def fits(self) -> np.ndarray:
        """True where the memory of the fullest rank is there."""
        return np.asarray(self.memory.total <= self.capacity)

    @cached_property
    def activity(self) -> Activity:
        """What the average rank does."""
        return self.count()

    @cached_property
    def mfu(self) -> Number:
        """Model FLOP/s over peak FLOP/s."""
        return self.flops / (self.time.value * self.chips * self.peak)

    @property
    def tokens_per_s(self) -> Number:
        """Tokens per second of the whole job."""
        return self.tokens / self.time.value


def rank_of(system: System, plan: Plan) -> Rank:
    """The part of a chip that one rank of the plan owns (``lnc`` 0: the chip's default)."""
    chip = system.chip
    default = 1 if chip.lnc is None else int(float(chip.lnc.value))
    return Rank(chip=chip, cores=plan.lnc or default)


def compiled(rank: Rank, framework: Framework, *, naive: bool) -> Rank:
    """The rank as the framework's compiler uses it: flash attention is a kernel written by hand, the rest is not."""
    by_hand = () if naive else ("attention",)
    return replace(rank, tensor_gap=framework.fit("tensor_gap"), by_hand=by_hand)


def step(
    model: Model, system: System, plan: Plan, job: TrainingJob, framework: Framework, *, rank: Rank | None = None
) -> TrainingStep:
    """Price one optimizer step of ``job`` under a plan or a table of plans."""
    work, timer = laid_out(model, system, plan, job, framework, rank=rank)
    rank = timer.links.rank
    blocks = tuple(timer.time(b) for b in work.blocks)
    stage = choose_stage(plan, work, blocks, job.micro_batches(plan))
    terms = _terms(work, blocks, stage, timer, job, device_ops=device(rank))
    chips = np.asarray(plan.ranks, dtype=np.float64) * rank.share
    return TrainingStep(
        time=total("training step", list(terms.values())), terms=terms, memory=_memory(work, job, framework, timer),
        count=partial(step_activity, work, timer, job), plan=plan, chips=chips,
        batch=job.batch(plan), tokens=job.batch(plan) * job.sequence, flops=model_flops(model, job, plan),
        peak=peak_flops(rank, job), capacity=rank.chip.hbm_capacity.value * rank.share, stage=stage, blocks=blocks,
    )  # fmt: skip


def laid_out(
    model: Model, system: System, plan: Plan, job: TrainingJob, framework: Framework, *, rank: Rank | None = None
) -> tuple[RankWork, BlockTimer]:
    """What one rank does in a micro-batch, and what times its blocks."""
    naive = (job.attention or framework.attention) == "naive"
    rank = compiled(rank_of(system, plan) if rank is None else rank, framework, naive=naive)
    dtypes = job.number_formats(framework)
    work = per_rank(
        model, plan, phase="train", dtypes=dtypes, rank=rank, streams=job.lengths(model),
        sequences=np.asarray(plan.mb, dtype=np.float64), fused=framework.fused, naive_attention=naive,
        dropout=job.dropout, frozen=not job.trains_all, capacity_factor=job.capacity_factor,
        vocabulary_multiple=framework.vocabulary_multiple,
    )  # fmt: skip
    links = Links(system=system, rank=rank, dispatch=framework.dispatch)
    timer = BlockTimer(
        plan=plan, dtypes=dtypes, kernels=Kernels(framework=framework, chip=rank.chip), links=links,
        frozen=not job.trains_all,
    )  # fmt: skip
    return work, timer


def _terms(
    work: RankWork, blocks: tuple[BlockTimes, ...], stage: Schedule, timer: BlockTimer, job: TrainingJob,
    *, device_ops: DeviceOps,
) -> dict[str, Cost]:  # fmt: skip
    m = stage.micro_batches
    compute = stage.sum_slowest("compute", blocks, lambda b: b.compute)
    behind = compute.value / m
    communication = [
        stage.sum_slowest("between ranks of a stage", blocks, lambda b: b.exposed),
        *stage_sends(work, timer, micro_batches=m, behind=compute.value),
        # the last backward pass (two thirds of a micro-batch) hides the reduction, the first forward pass the gather
        *data_parallel(work, timer, job, behind_backward=behind * 2 / 3, behind_forward=behind / 3),
    ]
    fit = timer.framework.fit
    other = [
        formula("host per step", "s", "once", once=fit("step")),
        formula("host per micro-batch", "s", "times * each", times=m, each=fit("micro_batch")),
        # every step waits for the slowest of n ranks: of n normal deviates the largest is near sqrt(2 ln n)
        formula(
            "waiting for the slowest rank",
            "s",
            "compute * spread * deviations",
            compute=compute.value,
            spread=timer.kernels.chip.fit("spread"),
            deviations=np.sqrt(2 * np.log(work.plan.ranks)),
        ),
    ]
    return {
        "compute": compute,
        "communication_exposed": total("exposed communication", communication),
        "pipeline_bubble": stage.bubble(blocks),
        "optimizer": optimizer_step(work, timer, device_ops, job),
        "other": total("other", other),
    }


def _memory(work: RankWork, job: TrainingJob, framework: Framework, timer: BlockTimer) -> Memory:
    return training_memory(
        work, timer.dtypes, micro_batches=job.micro_batches(work.plan), master_weights=framework.master_weights,
        trainable=job.trainable, moments=MOMENTS[job.optimizer],
    )  # fmt: skip
