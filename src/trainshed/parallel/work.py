"""What one rank does: costed operators and the collectives between them, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from trainshed.core import Activity, Block, Experts, Number, Op, Plan
from trainshed.core.activity import NOTHING
from trainshed.core.cost import total
from trainshed.ops.base import OpCost

Phase = Literal["train", "prefill", "decode", "encode"]
Axis = Literal["tp", "dpa", "cp", "ep", "etp", "dp", "expert_dp", "pp"]
Direction = Literal["forward", "backward"]


def add_up(numbers: Iterable[Number]) -> Number:
    """The sum of numbers or arrays that broadcast; of none, zero."""
    result: Number = 0.0
    for n in numbers:
        result = result + n
    return result


@dataclass(frozen=True, kw_only=True, eq=False)
class Collective:
    """A collective that a rank takes part in once per block and micro-batch."""

    what: str
    kind: str
    """A kind of ``fabric.collective``."""
    size: Number
    """Bytes in NCCL's convention (``fabric.collective``)."""
    axis: Axis
    ranks: Number
    """Ranks of the group; 1 costs nothing."""
    stride: Number
    """Distance between neighbours of the group in rank order (see ``parallel.placement``)."""
    direction: Direction = "forward"
    dtype: str = "bf16"
    copies: Number = 1.0
    """Experts per token of moe_dispatch and moe_combine."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpWork:
    """One operator of a block on one rank and one micro-batch."""

    op: Op
    forward: OpCost
    backward: tuple[OpCost, ...] = ()
    """The products of the backward pass (input and weight gradients); empty outside training."""
    quantise_forward: OpCost | None = None
    """One pass that makes the low-precision copies of the operands; None where products run in what is stored."""
    quantise_backward: OpCost | None = None
    parameters: Number = 0.0
    """Parameters of the op that this rank holds (of one block)."""
    saved: Number = 0.0
    """Activation bytes kept for the backward pass when nothing is recomputed."""
    saved_selective: Number = 0.0
    """The same when the attention core is recomputed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockWork:
    """One of ``block.count`` equal blocks on one rank and one micro-batch."""

    block: Block
    ops: tuple[OpWork, ...]
    collectives: tuple[Collective, ...]
    inputs: Number = 0.0
    """Bytes of the block's input: all that full recomputation keeps."""

    @property
    def forward(self) -> tuple[OpCost, ...]:
        """Forward costs, in order."""
        return tuple(w.forward for w in self.ops)

    @property
    def dense_parameters(self) -> Number:
        """Parameters per rank of one block, routed experts left out."""
        return add_up(w.parameters for w in self.ops if not isinstance(w.op, Experts))

    @property
    def expert_parameters(self) -> Number:
        """Parameters per rank of one block's routed experts."""
        return add_up(w.parameters for w in self.ops if isinstance(w.op, Experts))


@dataclass(frozen=True, kw_only=True, eq=False)
class RankWork:
    """A model under a plan, seen from one rank: its blocks, as if the rank held all of them (see ``stages``)."""

    plan: Plan
    phase: Phase
    blocks: tuple[BlockWork, ...]

    def kind(self, kind: str) -> tuple[BlockWork, ...]:
        """Blocks of a kind: ``embedding``, ``layer``, ``head``, ``extra``; train-only ones are not layers."""
        return tuple(b for b in self.blocks if b.block.kind == kind and not b.block.train_only)

    @property
    def train_only(self) -> tuple[BlockWork, ...]:
        """Blocks that only training has (multi-token prediction)."""
        return tuple(b for b in self.blocks if b.block.train_only)

    @property
    def layers(self) -> int:
        """Layers of the model."""
        return sum(b.block.count for b in self.kind("layer"))


def activity_of(costs: Sequence[OpCost]) -> Activity:
    """The activity of operators, added up."""
    result = NOTHING
    for c in costs:
        result = result + c.activity
    return result


def times(what: str, costs: Sequence[OpCost], change: Callable[[OpCost], OpCost] = lambda c: c) -> OpCost:
    """Operators that follow one another, each passed through ``change`` first."""
    changed = [change(c) for c in costs]
    return OpCost(
        time=total(what, [c.time for c in changed], unit="s"),
        activity=activity_of(changed), launches=add_up(c.launches for c in changed),
    )  # fmt: skip
