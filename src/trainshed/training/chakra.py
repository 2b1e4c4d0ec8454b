"""One optimizer step as a Chakra trace: what every rank computes and calls, in order, with what it depends on.

A rank's blocks follow one another; a block's collectives follow its compute in each pass. Where the framework hides
communication, that much of the compute stands beside the collective instead of before it, so that a replay leaves as
much in the open as ``training.step``: communication − min(overlap · communication, compute). Pipelines run one forward,
one backward (1F1B, arXiv:2104.04473, section 2.2) with messages between stages.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from trainshed.core import Number, Plan, Recompute, UserError
from trainshed.fabric.chakra import Builder, Call, Trace
from trainshed.hardware.schema import System
from trainshed.models import Model
from trainshed.parallel import Collective, RankWork, block_exchanges, held, spans, step_exchanges
from trainshed.software.schema import Framework
from trainshed.training.blocks import HIDDEN_BY, BlockTimer, BlockTimes
from trainshed.training.job import TrainingJob
from trainshed.training.schedule import is_first, is_layer
from trainshed.training.step import TrainingStep, laid_out, step

#: Nodes of all ranks beyond which a trace is refused: it would take minutes and gigabytes to write.
MOST = 1_000_000


def chakra_trace(
    model: Model, system: System, plan: Plan, job: TrainingJob, framework: Framework, *, name: str = "step"
) -> Trace:  # fmt: skip
    """The trace of a scalar plan's step on all of its ranks; ``fabric.chakra.write`` writes it.

    UserError for interleaved pipelines (vpp above 1) and where it would have more than ``MOST`` nodes.
    """
    if int(plan.vpp) > 1:
        raise UserError(
            "interleaved pipelines have no Chakra trace here", where="--plan", value=str(plan), expected="vpp1"
        )
    priced = step(model, system, plan, job, framework)
    work, timer = laid_out(model, system, plan, job, framework)
    made = Builder(name=name, ranks=int(plan.ranks))
    shared = _Shared(plan=plan, work=work, timer=timer, job=job, priced=priced, stages=_stages(priced, int(plan.pp)))
    for rank in range(made.ranks):
        _Rank(rank, made, shared).write()
        if len(made) * made.ranks > MOST * (rank + 1):
            raise UserError(
                "a trace of too many nodes", where="--trace", value=len(made) // (rank + 1) * made.ranks,
                expected=f"at most {MOST:,}: fewer ranks, layers or micro-batches (--global-batch)",
            )  # fmt: skip
    return made.trace()


def _stages(priced: TrainingStep, pp: int) -> list[list[BlockTimes]]:
    """The blocks of each stage, one entry per copy: layers as evenly as the step's own split, the ends at the ends."""
    every = [b for b in priced.blocks for _ in range(b.work.block.count)]
    layers, heads = [b for b in every if is_layer(b)], [b for b in every if is_first(b)]
    tails = [b for b in every if not is_layer(b) and not is_first(b)]
    s = priced.stage.stages
    shares = [_f(s.first), *[_f(s.middle)] * (pp - 2), _f(s.last)] if pp > 1 else [float(len(layers))]
    ends = np.rint(np.cumsum([0.0, *shares]) * len(layers) / max(sum(shares), 1e-9)).astype(int).tolist()
    stages = [layers[a:b] for a, b in itertools.pairwise(ends)]
    stages[0] = [*heads, *stages[0]]
    stages[-1] = [*stages[-1], *tails]
    return stages


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shared:
    """What all ranks have in common."""

    plan: Plan
    work: RankWork
    timer: BlockTimer
    job: TrainingJob
    priced: TrainingStep
    stages: list[list[BlockTimes]]
    groups: dict[tuple[int, int, int], int] = field(default_factory=dict)
    hidden: dict[tuple[int, str], list[tuple[float, list[Collective]]]] = field(default_factory=dict)

    def passes(self, block: BlockTimes, direction: str) -> list[tuple[float, list[Collective]]]:
        """Each axis' collectives in a pass of a block, with the seconds of them that compute hides."""
        key = (id(block), direction)
        if key not in self.hidden:
            behind = _f((block.forward if direction == "forward" else block.backward).value)
            self.hidden[key] = [
                (min(overlap * self.seconds(calls), behind), calls) for overlap, calls in self._axes(block, direction)
            ]
        return self.hidden[key]

    def _axes(self, block: BlockTimes, direction: str) -> list[tuple[float, list[Collective]]]:
        framework, mine = self.timer.framework, block.work.collectives
        again = int(self.plan.recompute) == Recompute.FULL and block.work.block.kind == "layer"
        passes = [direction, *(["forward"] if again and direction == "backward" else [])]
        found = []
        for overlap, axes in HIDDEN_BY.items():
            calls = [c for p in passes for c in mine if c.direction == p and c.axis in axes]
            found.append((_f(framework.fit(overlap).value), calls))
        exchanged = block_exchanges(block.work, self.plan, self.timer.dtypes, frozen=self.timer.frozen)
        shards = [c for c in exchanged if c.direction == direction]
        found.append((_f(framework.fit("overlap_fsdp").value), shards))
        return [(overlap, [c for c in calls if _f(c.ranks) > 1]) for overlap, calls in found]

    def seconds(self, calls: Sequence[Collective]) -> float:
        """Of collectives that follow one another."""
        return sum(_f(self.timer.links.of(c).time.value) for c in calls)

    def once(self, direction: str) -> list[Collective]:
        """Data parallelism's collectives of a step."""
        found = step_exchanges(held(self.work), self.plan, self.timer.dtypes, trainable=self.job.trainable)
        return [c for c in found if c.direction == direction and _f(c.ranks) > 1]


class _Rank:
    """One rank's program on its way into the builder."""

    def __init__(self, rank: int, made: Builder, shared: _Shared) -> None:
        self.rank, self.made, self.shared, self.plan = rank, made, shared, shared.plan
        self.inside = made.ranks // int(self.plan.pp)
        self.stage = rank // self.inside
        self.blocks = shared.stages[self.stage]
        self.last: list[int] = []
        self.spent = 0.0
        """Seconds of compute that were written beside a collective before their turn."""

    def write(self) -> None:
        """Weights, micro-batches in the order of 1F1B, gradients, optimizer."""
        shared, m, pp = self.shared, round(_f(self.shared.priced.stage.micro_batches)), int(self.plan.pp)
        gathers, reductions = shared.once("forward"), shared.once("backward")
        # later stages wait for their first input and end before the first stage does: theirs hide there
        hide = _f(shared.timer.framework.fit("overlap_dp").value) if self.stage == 0 else 0.0
        one = _f(shared.priced.terms["compute"].value) / m
        self.spent = min(hide * shared.seconds(gathers), one / 3)
        self._beside("new weights", gathers, self.spent)
        hidden = min(hide * shared.seconds(reductions), one * 2 / 3)
        ahead = min(pp - 1 - self.stage, m)
        order = [("forward", k) for k in range(ahead)]
        for k in range(m):
            order += [("forward", k + ahead)] if k + ahead < m else []
            order += [("backward", k)]
        for direction, k in order:
            if direction == "backward" and k == m - 1:
                self.spent += hidden
            self._micro_batch(direction, k)
        self._beside("gradients", reductions, hidden)
        for name in ("optimizer", "other"):
            self._compute(name, _f(shared.priced.terms[name].value))

    def _micro_batch(self, direction: str, k: int) -> None:
        forward = direction == "forward"
        step_ = 1 if forward else -1
        pp = int(self.plan.pp)
        source, target = self.stage - step_, self.stage + step_
        if 0 <= source < pp:
            self._receive(source, 2 * k + (0 if forward else 1))
        for block in self.blocks if forward else reversed(self.blocks):
            name = f"{block.work.block.name} {direction}"
            seconds = _f((block.forward if forward else block.backward).value)
            parts = [(h, calls) for h, calls in self.shared.passes(block, direction) if calls]
            beside = [min(h, seconds / len(parts)) for h, _ in parts]
            self._compute(name, seconds - sum(beside))
            for h, (_, calls) in zip(beside, parts, strict=True):
                self._beside(name, calls, h)
        if 0 <= target < pp:
            to = self.rank + step_ * self.inside
            self.made.send(
                self.rank, f"{direction} to stage {target}", self._part(), to, 2 * k + (not forward), self.last
            )

    def _receive(self, source: int, tag: int) -> None:
        """What another stage sends; where each rank of a TP group sent its part, they gather the whole."""
        tp = spans(self.plan)["tp"]
        peer = self.rank + (source - self.stage) * self.inside
        got = self.made.receive(self.rank, f"from stage {source}", self._part(), peer, tag)
        self.last = [*self.last, got]
        if not int(self.plan.sp) and _f(tp.ranks) > 1:
            call = Call(kind="all_gather", dtype=self.shared.timer.dtypes.activations)
            size = _f(self.shared.work.kind("layer")[0].inputs)
            group = self._group(_f(tp.ranks), _f(tp.stride))
            self.last = [self.made.collective(self.rank, "gather what was received", call, size, group, self.last)]

    def _part(self) -> float:
        tensor = _f(self.shared.work.kind("layer")[0].inputs)
        return float(round(tensor if int(self.plan.sp) else tensor / _f(spans(self.plan)["tp"].ranks)))

    def _compute(self, label: str, seconds: float) -> None:
        taken = min(self.spent, seconds)
        self.spent -= taken
        if seconds - taken > 0:
            self.last = [self.made.compute(self.rank, label, seconds - taken, self.last)]

    def _beside(self, label: str, calls: Sequence[Collective], hidden: float) -> None:
        """Collectives one after another, and the compute that goes on meanwhile."""
        if not calls:
            return
        before = self.last
        for c in calls:
            moe = c.kind.startswith("moe_")
            call = Call(kind=c.kind, dtype=c.dtype, copies=_f(c.copies) if moe else 1.0,
                        algorithm=self.shared.timer.links.dispatch if moe else "auto")  # fmt: skip
            group = self._group(_f(c.ranks), _f(c.stride))
            self.last = [self.made.collective(self.rank, f"{label}: {c.what}", call, _f(c.size), group, self.last)]
        if hidden > 0:
            self.last = [*self.last, self.made.compute(self.rank, f"{label}: meanwhile", hidden, before)]

    def _group(self, ranks: float, stride: float) -> int:
        """This rank's group of so many ranks so far apart (``parallel.placement``)."""
        count, apart = round(ranks), round(stride)
        block = self.rank // (count * apart) * (count * apart)
        key = (count, apart, block + self.rank % apart)
        if key not in self.shared.groups:
            self.shared.groups[key] = self.made.group([key[2] + k * apart for k in range(count)])
        return self.shared.groups[key]


def _f(value: Number) -> float:
    return float(np.asarray(value).flat[0])
