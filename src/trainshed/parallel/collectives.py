"""The collectives inside one block: tensor, sequence, context and expert parallelism (Megatron-LM's scheme).

Every row-parallel product ends in a reduction of its output and every column-parallel one begins with a gather of its
input (sequence parallel), or both are one all-reduce (plain). The backward pass mirrors them; with sequence parallel it
gathers the input once more for the weight gradient. A size that a plan does not need gets a group of one rank.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trainshed.core import Attention, Block, Dtypes, Experts, Lookup, Matmul, Number, Shard
from trainshed.parallel.layout import Layout
from trainshed.parallel.placement import Span, spans
from trainshed.parallel.work import Axis, Collective, Direction

Mask = NDArray[np.bool_]


def block_collectives(block: Block, layout: Layout, dtypes: Dtypes) -> tuple[Collective, ...]:
    """What one rank exchanges in one block and micro-batch; backward entries only in training."""
    made = list(_Maker(layout, dtypes).block(block))
    return tuple(c for c in made if layout.phase == "train" or c.direction == "forward")


class _Maker:
    def __init__(self, layout: Layout, dtypes: Dtypes) -> None:
        self.layout = layout
        self.dtype = dtypes.activations
        self.size = dtypes.size("activations")
        self.spans = spans(layout.plan)
        self.sp: Mask = np.asarray(layout.degree("sp")) > 0
        self.plain: Mask = ~self.sp
        self.always: Mask = np.ones_like(self.sp)

    def block(self, block: Block) -> Iterator[Collective]:
        for op in block.ops:
            if self.layout.phase == "decode" and op.stream != "tokens":
                continue  # an encoder or a text that was read before decoding
            if isinstance(op, Experts):
                yield from self._experts(op, block)
            elif isinstance(op, Attention):
                yield from self._context(op)
            elif isinstance(op, Matmul) and op.shard is Shard.ROW:
                yield from self._row(op, block)
            elif isinstance(op, Lookup) and op.shard is Shard.VOCAB:
                yield from self._embedding(op, block)
            elif isinstance(op, Matmul) and op.shard is Shard.VOCAB:
                yield from self._head(op, block)

    def _one(self, what: str, kind: str, size: Number, axis: Axis, span: Span, when: Mask, direction: Direction,
             dtype: str = "", copies: float = 1.0) -> Collective:  # fmt: skip
        return Collective(
            what=what, kind=kind, size=size, axis=axis, ranks=np.where(when, span.ranks, 1.0), stride=span.stride,
            direction=direction, dtype=dtype or self.dtype, copies=copies,
        )  # fmt: skip

    def _row(self, op: Matmul, block: Block) -> Iterator[Collective]:
        size = self.layout.tokens(op, block) * op.n * self.size
        attention = op.role in ("attention", "state_space", "shared_experts")
        if op.role in ("attention", "state_space") and block.side_by_side:
            return  # its output is added to the MLP's before one reduction of both
        span = self.spans["attention_tp" if attention else "tp"]
        name, sp, plain = op.name, self.sp, self.plain
        if op.role == "shared_experts":
            plain = plain & ~self._replicated()  # its output is added to the routed experts' before their reduction
        if not attention:
            yield self._one("tokens of all attention groups", "all_gather", size, "dpa", self.spans["dpa"], self.always,
                            "forward")  # fmt: skip
        yield self._one(f"{name} input", "all_gather", size, "tp", span, sp, "forward")
        yield self._one(f"{name} output", "reduce_scatter", size, "tp", span, sp, "forward")
        yield self._one(f"{name} output", "all_reduce", size, "tp", span, plain, "forward")
        yield self._one(f"{name} output gradient", "all_gather", size, "tp", span, sp, "backward")
        yield self._one(f"{name} input again", "all_gather", size, "tp", span, sp, "backward")
        yield self._one(f"{name} input gradient", "reduce_scatter", size, "tp", span, sp, "backward")
        yield self._one(f"{name} input gradient", "all_reduce", size, "tp", span, plain, "backward")

    def _embedding(self, op: Lookup, block: Block) -> Iterator[Collective]:
        size = self.layout.tokens(op, block) * op.width * self.size
        span = self.spans["tp"]
        yield self._one(f"{op.name} output", "reduce_scatter", size, "tp", span, self.sp, "forward")
        yield self._one(f"{op.name} output", "all_reduce", size, "tp", span, self.plain, "forward")
        yield self._one(f"{op.name} output gradient", "all_gather", size, "tp", span, self.sp, "backward")

    def _head(self, op: Matmul, block: Block) -> Iterator[Collective]:
        tokens = self.layout.tokens(op, block)
        size, span = tokens * op.k * self.size, self.spans["tp"]
        yield self._one(f"{op.name} input", "all_gather", size, "tp", span, self.sp, "forward")
        if self.layout.phase == "train":
            yield self._one("loss", "all_reduce", 2 * tokens * 4.0, "tp", span, self.always, "forward", "fp32")
        else:
            yield self._one("logits", "all_gather", tokens * op.n * self.size, "tp", span, self.always, "forward")
        yield self._one(f"{op.name} input gradient", "reduce_scatter", size, "tp", span, self.sp, "backward")
        yield self._one(f"{op.name} input gradient", "all_reduce", size, "tp", span, self.plain, "backward")

    def _replicated(self) -> Mask:
        """Tokens replicated over TP: every rank computes its own experts' part and one reduction adds them up."""
        layout = self.layout
        inside = np.asarray(layout.degree("ep") * layout.degree("etp") <= layout.degree("tp"))
        alone: Mask = self.plain & np.asarray(layout.degree("dpa") == 1) & inside
        return alone

    def _experts(self, op: Experts, block: Block) -> Iterator[Collective]:
        layout = self.layout
        tokens = layout.tokens(op, block)
        etp, tp = layout.degree("etp"), layout.degree("tp")
        replicated = self._replicated()
        spread: Mask = ~replicated
        whole = tokens * op.k * self.size
        tp_span, ep_span, etp_span = self.spans["tp"], self.spans["ep"], self.spans["etp"]
        routed = tokens / tp * op.top_k * op.k * self.size
        directions: tuple[Direction, ...] = ("forward", "backward")
        for direction in directions:
            yield self._one(f"{op.name} output", "all_reduce", whole, "tp", tp_span, replicated, direction)
            yield self._one(f"{op.name} dispatch", "moe_dispatch", routed, "ep", ep_span, spread, direction,
                            copies=op.top_k)  # fmt: skip
            yield self._one(f"{op.name} gather", "all_gather", routed * etp, "etp", etp_span, spread, direction)
            yield self._one(f"{op.name} scatter", "reduce_scatter", routed * etp, "etp", etp_span, spread,
                            direction)  # fmt: skip
            yield self._one(f"{op.name} combine", "moe_combine", routed, "ep", ep_span, spread, direction,
                            copies=op.top_k)  # fmt: skip

    def _context(self, op: Attention) -> Iterator[Collective]:
        layout, span = self.layout, self.spans["cp"]
        _, kv_heads = layout.heads(op)
        width = op.latent if op.latent else kv_heads * (op.qk_dim + op.v_dim)
        size = layout.sequences_of(op) * layout.keys(op) * width * self.size
        yield self._one(f"{op.name} keys and values", "all_gather", size, "cp", span, self.always, "forward")
        yield self._one(f"{op.name} keys and values", "all_gather", size, "cp", span, self.always, "backward")
        yield self._one(
            f"{op.name} gradients of keys and values", "reduce_scatter", size, "cp", span, self.always, "backward"
        )
