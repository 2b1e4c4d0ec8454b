"""What data parallelism exchanges: weights and gradients, per block (ZeRO 2 and 3, FSDP) or once per step (ZeRO 0–2).

Sizes are whole tensors of a rank's TP share in NCCL's convention; routed experts meet over their own copies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainshed.core import Dtypes, Number, Plan
from trainshed.parallel.memory import Held
from trainshed.parallel.placement import spans
from trainshed.parallel.work import Axis, BlockWork, Collective, Direction


def block_exchanges(block: BlockWork, plan: Plan, dtypes: Dtypes, *, frozen: bool = False) -> list[Collective]:
    """Per micro-batch: ZeRO-3 gathers weights before both passes; ZeRO-2 and 3 scatter gradients after the second."""
    zero = np.asarray(plan.zero)
    if not np.any(zero >= 2):
        return []
    maker = _Maker(plan, dtypes)
    found: list[Collective] = []
    for what, count, axis in maker.classes(block.dense_parameters, block.expert_parameters):
        directions: tuple[Direction, ...] = ("forward", "backward")
        found += [maker.one(f"gather {what}weights", "all_gather", count, "weights", axis, zero >= 3, d)
                  for d in directions]  # fmt: skip
        if not frozen:
            found.append(
                maker.one(f"scatter gradients of {what}weights", "reduce_scatter", count, "gradients", axis, zero >= 2)
            )
    return found


def step_exchanges(own: Held, plan: Plan, dtypes: Dtypes, *, trainable: float = 1.0) -> list[Collective]:
    """Per step: ZeRO 0 all-reduces gradients, 1 scatters them; 1 and 2 gather the new weights (``forward``)."""
    zero = np.asarray(plan.zero)
    maker = _Maker(plan, dtypes)
    found: list[Collective] = []
    for what, count, axis in maker.classes(own.dense * trainable, own.experts * trainable):
        found += [
            maker.one(f"all-reduce of {what}gradients", "all_reduce", count, "gradients", axis, zero == 0),
            maker.one(f"scatter of {what}gradients", "reduce_scatter", count, "gradients", axis, zero == 1),
            maker.one(f"gather of new {what}weights", "all_gather", count, "weights", axis, (zero == 1) | (zero == 2),
                      "forward"),
        ]  # fmt: skip
    return [c for c in found if np.any(np.asarray(c.ranks) > 1)]


class _Maker:
    def __init__(self, plan: Plan, dtypes: Dtypes) -> None:
        self.groups = spans(plan)
        self.dtypes = dtypes

    @staticmethod
    def classes(dense: Number, experts: Number) -> Iterator[tuple[str, Number, Axis]]:
        """Parameters by the group that shares them; classes that a model does not have are left out."""
        if np.any(np.asarray(dense) > 0):
            yield "", dense, "dp"
        if np.any(np.asarray(experts) > 0):
            yield "expert ", experts, "expert_dp"

    def one(self, what: str, kind: str, count: Number, tensor: str, axis: Axis, when: NDArray[np.bool_],
            direction: Direction = "backward") -> Collective:  # fmt: skip
        """One collective of ``count`` elements of a tensor class, where ``when`` holds."""
        span = self.groups[axis]
        return Collective(
            what=what, kind=kind, size=count * self.dtypes.size(tensor), axis=axis,
            ranks=np.where(when, span.ranks, 1.0), stride=span.stride, direction=direction,
            dtype=self.dtypes.of(tensor),
        )  # fmt: skip
