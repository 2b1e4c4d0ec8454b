"""A plan applied to a model's graph: the costed operators of one rank, forward and backward."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import singledispatchmethod

import numpy as np

from trainshed.core import (
    BYTES,
    Attention,
    Block,
    Dtypes,
    Elementwise,
    Experts,
    Lookup,
    Matmul,
    Number,
    Op,
    Plan,
    Scan,
    Shard,
)
from trainshed.models import Model
from trainshed.ops.base import DeviceOps, OpCost, Rank, device, together
from trainshed.parallel.collectives import block_collectives
from trainshed.parallel.layout import Layout
from trainshed.parallel.saved import Saved
from trainshed.parallel.work import BlockWork, OpWork, Phase, RankWork

#: Roles whose products stay in the activations' dtype when the rest runs in a lower precision.
_HIGH_PRECISION = frozenset({"router", "head", "embedding", "conditioning"})

_Pair = tuple[OpCost | None, OpCost | None]
_Costs = tuple[OpCost, tuple[OpCost, ...], _Pair]


def per_rank(
    model: Model,
    plan: Plan,
    *,
    phase: Phase,
    dtypes: Dtypes,
    rank: Rank,
    streams: Mapping[str, Number],
    sequences: Number,
    context: Number | None = None,
    fused: Collection[str] = (),
    naive_attention: bool = False,
    dropout: bool = False,
    frozen: bool = False,
    capacity_factor: Number = 1.0,
    vocabulary_multiple: int = 1,
    distinct: Number | None = None,
    reads_per_expert: Number = 1.0,
) -> RankWork:
    """Operators, collectives, parameters and kept activations of one rank for one micro-batch.

    ``streams``: tokens per sequence to compute, by stream; ``sequences``: sequences of the micro-batch on this rank's
    model replica; ``context``: KV tokens attended (own ones included; None: those computed). ``fused``: roles of
    elementwise ops that ride in a neighbouring kernel. ``naive_attention``: scores go through HBM. ``frozen``: the
    weights get no gradients (LoRA). ``capacity_factor``: expert slots computed per routed copy. ``distinct``: tokens
    that differ, where a batch repeats them (they share their experts). ``reads_per_expert``: how often the weights of
    an expert that is hit are read. Serving leaves the train-only blocks out; every degree of ``plan`` may be an array.
    """
    layout = Layout(plan=plan, phase=phase, streams=streams, sequences=sequences, context=context)
    coster = _Coster(
        layout=layout, dtypes=dtypes, ops=device(rank), fused=frozenset(fused), naive=naive_attention,
        dropout=dropout, frozen=frozen, capacity=capacity_factor, vocabulary_multiple=vocabulary_multiple,
        distinct=distinct, reads_per_expert=reads_per_expert,
    )  # fmt: skip
    blocks = []
    for block in model.graph.blocks:
        if block.train_only and phase != "train":
            continue
        saved = Saved(layout=layout, block=block, dtypes=dtypes, naive=naive_attention, dropout=dropout)
        ops = tuple(work for op in block.ops for work in coster.works(op, block, saved))
        collectives = block_collectives(block, layout, dtypes) if _any_group(plan) else ()
        blocks.append(BlockWork(block=block, ops=ops, collectives=collectives, inputs=saved.block_input()))
    return RankWork(plan=plan, phase=phase, blocks=tuple(blocks))


def _any_group(plan: Plan) -> bool:
    return any(np.any(np.asarray(getattr(plan, n)) > 1) for n in ("tp", "ep", "etp", "cp", "dpa"))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Coster:
    """Costs every kind of op with the rank's device; one method per kind."""

    layout: Layout
    dtypes: Dtypes
    ops: DeviceOps
    fused: frozenset[str]
    naive: bool
    dropout: bool
    frozen: bool
    capacity: Number
    vocabulary_multiple: int
    distinct: Number | None
    reads_per_expert: Number

    @property
    def _training(self) -> bool:
        return self.layout.phase == "train"

    def works(self, op: Op, block: Block, saved: Saved) -> Iterator[OpWork]:
        """The op, and beside routed experts in training the passes that sort and activate."""
        yield self.work(op, block, saved)
        if isinstance(op, Experts) and self._training:
            yield self._routing(op, block)

    def work(self, op: Op, block: Block, saved: Saved) -> OpWork:
        """One op with what the backward pass needs of it."""
        forward, backward, quantise = self._cost(op, block)
        if self.layout.phase == "decode" and op.stream != "tokens":
            forward = forward.scaled(0.0, op.name)  # text that the tokens attend to was read before decoding
        kept, selective = saved.of(op)
        return OpWork(
            op=op, forward=forward, backward=backward if self._training else (), quantise_forward=quantise[0],
            quantise_backward=quantise[1] if self._training else None, parameters=self.parameters(op, block),
            saved=kept, saved_selective=selective,
        )  # fmt: skip

    @singledispatchmethod
    def _cost(self, op: Op, block: Block) -> _Costs:
        raise NotImplementedError(f"no cost for {type(op).__name__}")

    @_cost.register
    def _matmul(self, op: Matmul, block: Block) -> _Costs:
        m = self.layout.local_tokens(op, block)
        k, n = self.matmul_shape(op, block)
        product, weights, activations = self._operand_dtypes(op)

        def one(what: str, m: Number, k: Number, n: Number, stored: str) -> OpCost:
            return self.ops.matmul(
                what=what, m=m, k=k, n=n, dtype=product, weights=stored, activations=activations
            )  # fmt: skip

        forward = one(op.name, m, k, n, weights)
        if op.shard is Shard.VOCAB and self._training:
            forward = together(op.name, [forward, self._loss("cross_entropy", m * n)])
        if not self._training:
            return forward, (), self._quantise(op, product, m * k, m * n)
        backward = [one(f"{op.name} input gradient", m, n, k, weights)]
        if not self.frozen:
            backward.append(one(f"{op.name} weight gradient", k, m, n, activations))
        if op.shard is Shard.VOCAB:
            backward.insert(0, self._loss("cross_entropy gradient", m * n))
        return forward, tuple(backward), self._quantise(op, product, m * k, m * n)

    @_cost.register
    def _experts(self, op: Experts, block: Block) -> _Costs:
        tokens = self.layout.expert_copies(op, block) * self.capacity
        active = self.layout.active_experts(op, block, self.distinct) * self.reads_per_expert
        n = self.layout.per_tp(op.n, self.layout.degree("etp"))
        product, weights, activations = self._operand_dtypes(op)
        forward = self.ops.experts(
            what=op.name, tokens=tokens, active=active, k=op.k, n=n, gated=op.gated, dtype=product, weights=weights,
            activations=activations,
        )  # fmt: skip
        if not self._training:
            return forward, (), self._quantise(op, product, tokens * (op.k + n), 0.0)
        # input and weight gradients of every product: as many operations as the forward pass, each
        backward = [forward.scaled(1.0, f"{op.name} input gradient")]
        if not self.frozen:
            backward.append(forward.scaled(1.0, f"{op.name} weight gradient"))
        width = op.k + n * (3 if op.gated else 2)
        quantise = self._quantise(op, product, tokens * (op.k + n), tokens * width)
        return forward, tuple(backward), quantise

    def _routing(self, op: Experts, block: Block) -> OpWork:
        """What training frameworks do around the grouped products in passes of their own: sort the routed copies by
        expert, add biases, the activation between the products, put the copies back in order."""
        tokens = self.layout.expert_copies(op, block) * self.capacity
        n = self.layout.per_tp(op.n, self.layout.degree("etp"))
        ups = 2.0 if op.gated else 1.0
        name = f"{op.name} routing"

        def passes(what: str, activation: tuple[float, float], biases: tuple[float, float]) -> OpCost:
            shapes = [("sort", op.k, 1.0, 1.0), ("activation", n, *activation), ("unsort", op.k, 1.0, 1.0)]
            shapes += [("biases", ups * n + op.k, *biases)] if op.bias else []
            return together(what, [
                self.ops.elementwise(
                    what=f"{what}: {part}", elements=tokens * width, reads=reads, writes=writes, vector=2.0,
                    transcendental=0.0, dtype=self.dtypes.activations,
                )
                for part, width, reads, writes in shapes
            ])  # fmt: skip

        passing = Elementwise(
            name=name, role="routing", shard=Shard.EXPERTS, stream=op.stream, width=op.k, reads=2.0, writes=2.0
        )  # fmt: skip
        return OpWork(
            op=passing, forward=passes(name, (ups, 1.0), (1.0, 1.0)),
            backward=(passes(f"{name} gradient", (ups + 1.0, ups), (1.0, 0.0)),),
        )  # fmt: skip

    @_cost.register
    def _attention(self, op: Attention, block: Block) -> _Costs:
        layout = self.layout
        sequences = layout.sequences_of(op)
        heads, kv_heads = layout.heads(op)
        decode = layout.phase == "decode"
        # a compiled graph may keep a block of naive attention's scores on chip: one pass over the whole square
        on_chip = self.naive and "scores" in self.fused
        paired = layout.queries(op) * layout.attended(op) if on_chip else layout.pairs(op)

        def one(what: str, direction: str) -> OpCost:
            return self.ops.attention(
                what=what, sequences=sequences, queries=layout.queries(op), keys=layout.attended(op), heads=heads,
                kv_heads=kv_heads, qk_dim=op.qk_dim, v_dim=op.v_dim, causal=op.causal and not decode,
                dtype=self.dtypes.activations, kv=self.dtypes.kv if not self._training else self.dtypes.activations,
                latent=op.latent if decode else 0, paired=paired, direction=direction,
            )  # fmt: skip

        if self.naive and not decode and not on_chip:
            return self._naive(op, sequences, heads)
        forward = [one(op.name, "forward")]
        backward = [one(f"{op.name} gradient", "backward")]
        if op.index_dim:
            forward.append(self._indexer(op, heads=float(max(op.index_heads, 1)), sequences=sequences))
        return together(op.name, forward) if len(forward) > 1 else forward[0], tuple(backward), (None, None)

    def _naive(self, op: Attention, sequences: Number, heads: Number) -> _Costs:
        """Two products per head over the whole square, its scores in HBM, and the passes of softmax and dropout."""
        layout, size = self.layout, self.dtypes.activations
        queries, keys = layout.queries(op), layout.attended(op)

        def product(what: str, m: Number, k: Number, n: Number) -> OpCost:
            return self.ops.matmul(
                what=what, m=m, k=k, n=n, count=sequences * heads, dtype=size, weights=size, activations=size
            )  # fmt: skip

        def passes(what: str, reads: float, writes: float) -> OpCost:
            return self.ops.elementwise(
                what=what, elements=sequences * heads * queries * keys, reads=reads, writes=writes, vector=4.0,
                transcendental=1.0, dtype=size,
            )  # fmt: skip

        drop = 1.0 if self.dropout else 0.0
        forward = [
            product("scores", queries, op.qk_dim, keys), passes("softmax", 1.0, 1.0),
            *([passes("dropout", 1.0, 1.5)] * int(drop)), product("values", queries, keys, op.v_dim),
        ]  # fmt: skip
        # gradients of the probabilities, values, queries and keys; softmax reads its output and its gradient
        backward = [
            product("gradient of probabilities", queries, op.v_dim, keys),
            product("gradient of values", keys, queries, op.v_dim), passes("softmax gradient", 2.0 + 1.5 * drop, 1.0),
            product("gradient of queries", queries, keys, op.qk_dim),
            product("gradient of keys", keys, queries, op.qk_dim),
        ]  # fmt: skip
        return together(op.name, forward), (together(f"{op.name} gradient", backward),), (None, None)

    def _indexer(self, op: Attention, *, heads: Number, sequences: Number) -> OpCost:
        """Sparse attention first scores every cached token by a narrow key."""
        return self.ops.attention(
            what="indexer", sequences=sequences, queries=self.layout.queries(op), keys=self.layout.keys(op),
            heads=heads, kv_heads=1.0, qk_dim=op.index_dim, v_dim=1.0, causal=op.causal, dtype=self.dtypes.activations,
            kv=self.dtypes.activations,
        )  # fmt: skip

    @_cost.register
    def _elementwise(self, op: Elementwise, block: Block) -> _Costs:
        elements = self.layout.local_tokens(op, block) * self.width(op)
        fused = op.role in self.fused
        forward = self.ops.elementwise(
            what=op.name, elements=elements, reads=op.reads, writes=op.writes, vector=op.vector,
            transcendental=op.transcendental, dtype=self.dtypes.activations, fused=fused,
        )  # fmt: skip
        # reads the gradients of its outputs and its saved inputs, writes the gradients of its inputs
        gradient = self.ops.elementwise(
            what=f"{op.name} gradient", elements=elements,
            reads=op.reads if op.role == "residual" else op.reads + op.writes,
            writes=op.writes if op.role == "residual" else op.reads,
            vector=2 * op.vector, transcendental=op.transcendental, dtype=self.dtypes.activations, fused=fused,
        )  # fmt: skip
        return forward, (gradient,), (None, None)

    @_cost.register
    def _scan(self, op: Scan, block: Block) -> _Costs:
        layout = self.layout
        heads, groups = layout.scan_heads(op)

        def one(what: str, direction: str) -> OpCost:
            return self.ops.scan(
                what=what, tokens=layout.tokens(op, block), heads=heads, key_dim=op.key_dim, value_dim=op.value_dim,
                groups=groups, conv_width=op.conv_width, conv_channels=op.conv_channels / layout.tp_of(op),
                chunk=op.chunk, sequences=layout.sequences_of(op), dtype=self.dtypes.activations, direction=direction,
            )  # fmt: skip

        return one(op.name, "forward"), (one(f"{op.name} gradient", "backward"),), (None, None)

    @_cost.register
    def _lookup(self, op: Lookup, block: Block) -> _Costs:
        def one(what: str, tokens: Number) -> OpCost:
            return self.ops.lookup(what=what, tokens=tokens, width=op.width, dtype=self.dtypes.activations)

        tokens = self.layout.local_tokens(op, block)
        # the gradient reads what is there, adds and writes
        backward = () if self.frozen else (one(f"{op.name} gradient", 2.0 * tokens),)
        return one(op.name, tokens), backward, (None, None)

    def _loss(self, what: str, logits: Number) -> OpCost:
        return self.ops.elementwise(
            what=what, elements=logits, reads=1.0, writes=1.0, vector=3.0, transcendental=1.0, dtype="fp32"
        )  # fmt: skip

    def _quantise(self, op: Op, product: str, forward: Number, backward: Number) -> _Pair:
        """One pass over the operands that the products take in a lower precision than they are stored in."""
        if BYTES[product] >= BYTES[self.dtypes.activations]:
            return None, None

        def one(what: str, elements: Number) -> OpCost:
            return self.ops.elementwise(
                what=what, elements=elements, reads=1.0, writes=BYTES[product] / BYTES[self.dtypes.activations],
                vector=2.0, transcendental=0.0, dtype=self.dtypes.activations,
            )  # fmt: skip

        return one(f"quantise {op.name}", forward), one(f"quantise gradient of {op.name}", backward)

    def _operand_dtypes(self, op: Op) -> tuple[str, str, str]:
        """Product dtype, and the dtypes that its two operands are read in."""
        stored = self.dtypes.of("experts" if op.role == "experts" else "weights")
        activations = self.dtypes.activations
        if op.role in _HIGH_PRECISION:
            return activations, max(stored, activations, key=BYTES.__getitem__), activations
        product = self.dtypes.matmul or max(stored, activations, key=BYTES.__getitem__)
        if op.role == "experts" and self.dtypes.experts_matmul:
            product = self.dtypes.experts_matmul
        operand = min(stored, product, key=BYTES.__getitem__)
        if not self._training:  # the kernel converts activations on their way in
            return product, operand, activations
        return product, operand, min(activations, product, key=BYTES.__getitem__)

    def matmul_shape(self, op: Matmul, block: Block) -> tuple[Number, Number]:
        """k and n of the product on this rank."""
        layout = self.layout
        if op.shard in (Shard.COLUMN, Shard.HEADS):
            return float(op.k), layout.columns(op, block)
        if op.shard is Shard.ROW:
            return layout.rows(op, block), float(op.n)
        if op.shard is Shard.VOCAB:
            return float(op.k), self._vocabulary(op.n)
        return float(op.k), float(op.n)

    def _vocabulary(self, rows: int) -> Number:
        tp = self.layout.degree("tp")
        step = self.vocabulary_multiple * tp
        return np.ceil(rows / step) * step / tp

    def width(self, op: Elementwise) -> Number:
        """Elements per token on this rank."""
        if op.shard in (Shard.COLUMN, Shard.ROW, Shard.HEADS):
            return op.width / self.layout.tp_of(op)
        if op.shard is Shard.EXPERTS:
            return op.width / self.layout.degree("tp")
        return float(op.width)

    def parameters(self, op: Op, block: Block) -> Number:
        """Parameters of the op on this rank."""
        layout = self.layout
        if not op.parameters or op.shard in (Shard.SEQUENCE, Shard.REPLICATED):
            return float(op.parameters)
        if isinstance(op, Experts) or op.shard is Shard.EXPERTS:
            return op.parameters / (layout.degree("ep") * layout.degree("etp"))
        if isinstance(op, Matmul):
            k, n = self.matmul_shape(op, block)
            return op.parameters * (k * n) / (op.k * op.n)
        if isinstance(op, Lookup):
            return op.parameters * self._vocabulary(op.rows) / op.rows
        return op.parameters / layout.tp_of(op)
