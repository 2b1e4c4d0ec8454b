"""One block of the model in one micro-batch: compute, and the communication that compute does not hide."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainshed.core import Attention, Cost, Dtypes, Number, Plan, Recompute, scaled, total
from trainshed.parallel import BlockWork, OpWork, block_exchanges
from trainshed.parallel.work import Axis
from trainshed.software.schema import Framework
from trainshed.training.kernels import Kernels, exposed
from trainshed.training.links import Links

#: Axes whose collectives a framework hides (or does not) by the same means.
HIDDEN_BY: dict[str, tuple[Axis, ...]] = {
    "overlap_tp": ("tp", "dpa"),
    "overlap_ep": ("ep", "etp"),
    "overlap_cp": ("cp",),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockTimes:
    """Seconds of one block and micro-batch on one rank."""

    work: BlockWork
    forward: Cost
    backward: Cost
    """Recomputation included."""
    exposed: Cost
    """Communication that neither pass hides."""

    @cached_property
    def compute(self) -> Cost:
        """Forward and backward."""
        return total(f"{self.work.block.name}: compute", [self.forward, self.backward])

    @cached_property
    def all(self) -> Cost:
        """Compute and what communication adds."""
        return total(self.work.block.name, [self.forward, self.backward, self.exposed])


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockTimer:
    """Times blocks under a plan."""

    plan: Plan
    dtypes: Dtypes
    kernels: Kernels
    links: Links
    frozen: bool = False

    @property
    def framework(self) -> Framework:
        """The framework that runs the blocks."""
        return self.kernels.framework

    def time(self, work: BlockWork) -> BlockTimes:
        """The block's passes and what is exposed of its collectives."""
        name = work.block.name
        forward = self.kernels.forward(f"{name} forward", work.ops)
        again = self._again(work) if work.block.kind == "layer" else []
        backward = self.kernels.backward(f"{name} backward", work.ops, again)
        parts = [p for axis in HIDDEN_BY for p in self._axis(work, axis, forward, backward)]
        parts += self._sharded_weights(work, forward, backward)
        return BlockTimes(
            work=work, forward=forward, backward=backward,
            exposed=total(f"{name}: exposed communication", parts, unit="s"),
        )  # fmt: skip

    def _again(self, work: BlockWork) -> list[tuple[OpWork, Number]]:
        recompute = np.asarray(self.plan.recompute)
        full: Number = np.where(recompute == Recompute.FULL, 1.0, 0.0)
        core: Number = np.where(recompute >= Recompute.SELECTIVE, 1.0, 0.0)
        found = [(w, core if isinstance(w.op, Attention) else full) for w in work.ops]
        return [(w, times) for w, times in found if np.any(np.asarray(times) > 0)]

    def _axis(self, work: BlockWork, overlap: str, forward: Cost, backward: Cost) -> list[Cost]:
        hide = self.framework.fit(overlap)
        axes = HIDDEN_BY[overlap]
        there, back = self.links.block(work, "forward", axes), self.links.block(work, "backward", axes)
        if not there.children and not back.children:
            return []
        if work.block.kind == "layer" and np.any(np.asarray(self.plan.recompute) == Recompute.FULL):
            again = np.where(np.asarray(self.plan.recompute) == Recompute.FULL, 1.0, 0.0)
            back = total(back.what, [back, scaled("forward again", there, again)])
        name = axes[0]
        return [
            exposed(f"{name} forward, exposed", there, hide, forward),
            exposed(f"{name} backward, exposed", back, hide, backward),
        ]

    def _sharded_weights(self, work: BlockWork, forward: Cost, backward: Cost) -> list[Cost]:
        """Weights and gradients that FSDP exchanges, each behind the pass that it belongs to."""
        exchanges = block_exchanges(work, self.plan, self.dtypes, frozen=self.frozen)
        if not exchanges:
            return []
        hide = self.framework.fit("overlap_fsdp")
        there = self.links.together("gather weights", exchanges, "forward")
        back = self.links.together("gather weights, scatter gradients", exchanges, "backward")
        return [
            exposed("weights forward, exposed", there, hide, forward),
            exposed("weights and gradients backward, exposed", back, hide, backward),
        ]
